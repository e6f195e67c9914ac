#include "learner/intake/trajectory_door.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/message_differencer.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/outcome.h"
#include "proto/wire/packed_array.h"
#include "proto/wire/trajectory_stream.h"

namespace temper {
namespace {

// log-softmax may round a certain token's log-probability just above zero.
constexpr float kLogprobMax = 1e-3f;
// The worker adds the parts in its own order.
constexpr double kRewardSumTolerance = 1e-9;

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::Status CheckAtMost(const char* what, int64_t value, int64_t limit) {
  if (value <= limit) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(what, " is ", value, ", above the limit of ", limit));
}

// What metrics ask of an episode beside its tokens: the buffer keeps this, not
// the whole Trajectory, whose texts may be of megabytes.
void TakeFacts(const Trajectory& trajectory, Episode* episode) {
  episode->reward_parts.assign(trajectory.reward_parts().begin(),
                               trajectory.reward_parts().end());
  episode->assistant_turns = static_cast<int32_t>(std::count_if(
      trajectory.turns().begin(), trajectory.turns().end(),
      [](const Turn& turn) { return turn.role() == "assistant"; }));
  episode->environment_us = trajectory.environment_us();
  episode->reward_us = trajectory.reward_us();
}

// After all else has passed, so that what is refused for its versions alone is
// known to be sound.
absl::Status CheckVersions(const Episode& episode,
                           const std::function<bool(uint64_t)>& version_known) {
  for (size_t i = 0; i < episode.branches.size(); ++i) {
    for (const EpisodeSpan& span : episode.branches[i].versions) {
      if (version_known(span.version)) continue;
      return absl::FailedPreconditionError(
          absl::StrCat("branch ", i, ": weight version ", span.version,
                       " is not of this run's surviving lineage"));
    }
  }
  return absl::OkStatus();
}

// Where nothing was sampled there is no branch to lie within.
absl::Status CheckTurns(const Trajectory& trajectory) {
  const int branches = trajectory.branches_size();
  for (int i = 0; i < trajectory.turns_size(); ++i) {
    const Turn& turn = trajectory.turns(i);
    const uint32_t begin = turn.token_begin(), end = turn.token_end();
    if (branches > 0 && turn.branch() >= static_cast<uint32_t>(branches)) {
      return Invalid("turns[", i, "].branch is ", turn.branch(), " of ",
                     branches);
    }
    if (end < begin) {
      return Invalid("turns[", i, "].token_end is ", end,
                     ", before its token_begin, ", begin);
    }
    if (branches > 0) {
      const Branch& branch =
          trajectory.branches(static_cast<int>(turn.branch()));
      const size_t tokens = PackedCount<int32_t>(branch.tokens());
      if (end > tokens) {
        return Invalid("turns[", i, "].token_end is ", end, "; branch ",
                       turn.branch(), " has ", tokens, " tokens");
      }
    }
    if (i == 0) continue;
    const Turn& before = trajectory.turns(i - 1);
    if (turn.branch() < before.branch()) {
      return Invalid("turns[", i, "].branch is ", turn.branch(), " after ",
                     before.branch(), "; turns are in order");
    }
    const bool same =
        begin == before.token_begin() && end == before.token_end();
    if (turn.branch() == before.branch() && !same &&
        begin < before.token_end()) {
      return Invalid("turns[", i, "].token_begin is ", begin,
                     ", within the turn before, which ends at ",
                     before.token_end());
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TrajectoryDoor> TrajectoryDoor::Create(
    const DoorLimits& limits) {
  if (limits.run.empty()) return Invalid("DoorLimits.run is empty");
  if (limits.vocab_size < 1 || limits.kept_max < 1) {
    return Invalid("DoorLimits: vocab_size ", limits.vocab_size,
                   " and kept_max ", limits.kept_max, " must be positive");
  }
  if (limits.moe_layers < 0 ||
      (limits.moe_layers > 0 && (limits.experts < 1 || limits.experts > 65536 ||
                                 limits.experts_per_token < 1 ||
                                 limits.experts_per_token > limits.experts))) {
    return Invalid("DoorLimits: moe_layers ", limits.moe_layers, ", experts ",
                   limits.experts, ", experts_per_token ",
                   limits.experts_per_token, " do not fit together");
  }
  return TrajectoryDoor(limits);
}

absl::StatusOr<Trajectory> TrajectoryDoor::Parse(
    const TrajectoryKey& key, const std::string& bytes) const {
  RETURN_IF_ERROR(CheckAtMost("the trajectory's size in bytes",
                              static_cast<int64_t>(bytes.size()),
                              limits_.message_bytes_max));
  Trajectory trajectory;
  // After its size was looked at: a parse may take many times the bytes'
  // memory.
  if (!trajectory.ParseFromString(bytes)) {
    return absl::DataLossError(absl::StrCat("a trajectory of ", bytes.size(),
                                            " bytes does not parse"));
  }
  // Acks, leases and credits go by the header's key, the ledger by this one.
  if (!google::protobuf::util::MessageDifferencer::Equals(trajectory.key(),
                                                          key)) {
    return Invalid("the trajectory's key is not that of its header");
  }
  return trajectory;
}

absl::StatusOr<Episode> TrajectoryDoor::Admit(
    const Trajectory& trajectory,
    const std::function<bool(uint64_t)>& version_known) const {
  const TrajectoryKey& key = trajectory.key();
  if (trajectory.wire_version() != kWireVersion) {
    return Invalid("wire_version ", trajectory.wire_version(),
                   "; this learner reads ", kWireVersion);
  }
  if (key.run() != limits_.run) {
    return Invalid("run \"", key.run(), "\" is not this run, \"", limits_.run,
                   "\"");
  }
  if (trajectory.purpose() != PURPOSE_TRAIN &&
      trajectory.purpose() != PURPOSE_EVAL) {
    return Invalid("purpose ", trajectory.purpose(), " is none");
  }
  // Sizes before contents: what follows may walk all of it, under the buffer's
  // lock.
  RETURN_IF_ERROR(CheckCounts(trajectory));
  RETURN_IF_ERROR(CheckTexts(trajectory));
  RETURN_IF_ERROR(CheckTurns(trajectory));
  RETURN_IF_ERROR(CheckReward(trajectory));
  Episode episode;
  episode.group = key.group();
  episode.sample = key.sample();
  episode.lease = key.lease();
  episode.purpose = trajectory.purpose();
  episode.outcome = trajectory.outcome();
  episode.has_reward = trajectory.has_reward();
  episode.reward = trajectory.reward();
  episode.task_id = trajectory.task_id();
  episode.environment = trajectory.environment();
  episode.domain = trajectory.domain();
  TakeFacts(trajectory, &episode);
  size_t sampled = 0;
  for (int i = 0; i < trajectory.branches_size(); ++i) {
    auto branch = DecodeBranch(trajectory.branches(i));
    if (!branch.ok()) {
      return absl::Status(
          branch.status().code(),
          absl::StrCat("branch ", i, ": ", branch.status().message()));
    }
    sampled += branch->sampled.size();
    episode.branches.push_back(*std::move(branch));
  }
  if (episode.has_reward && sampled == 0) {
    return Invalid("an episode with a reward has no sampled token");
  }
  RETURN_IF_ERROR(CheckVersions(episode, version_known));
  return episode;
}

absl::Status TrajectoryDoor::CheckCounts(const Trajectory& trajectory) const {
  RETURN_IF_ERROR(CheckAtMost("the number of branches",
                              trajectory.branches_size(),
                              limits_.branches_max));
  RETURN_IF_ERROR(CheckAtMost("the number of turns", trajectory.turns_size(),
                              limits_.turns_max));
  RETURN_IF_ERROR(CheckAtMost("the number of tool calls",
                              trajectory.tool_calls_size(),
                              limits_.tool_calls_max));
  // One to begin with, one to end, and no more than turns between.
  RETURN_IF_ERROR(CheckAtMost("the number of environment calls",
                              trajectory.environment_calls_size(),
                              limits_.turns_max + 2));
  RETURN_IF_ERROR(CheckAtMost("the number of reward parts",
                              trajectory.reward_parts_size(),
                              limits_.reward_parts_max));
  int64_t tokens = 0;
  for (const Branch& branch : trajectory.branches()) {
    tokens += static_cast<int64_t>(PackedCount<int32_t>(branch.tokens()));
  }
  return CheckAtMost("the number of tokens", tokens, limits_.tokens_max);
}

absl::Status TrajectoryDoor::CheckTexts(const Trajectory& trajectory) const {
  const auto check_name = [this](const char* what, const std::string& name) {
    return CheckAtMost(what, static_cast<int64_t>(name.size()),
                       limits_.name_bytes_max);
  };
  size_t text = trajectory.error().size() +
                trajectory.verdict().answer().size() +
                trajectory.verdict().detail().size();
  RETURN_IF_ERROR(
      check_name("the worker's name in bytes", trajectory.worker()));
  for (const RewardPart& part : trajectory.reward_parts()) {
    RETURN_IF_ERROR(check_name("a reward part's name in bytes", part.name()));
  }
  for (const Turn& turn : trajectory.turns()) {
    RETURN_IF_ERROR(check_name("a turn's role in bytes", turn.role()));
    text += turn.text().size();
  }
  for (int i = 0; i < trajectory.tool_calls_size(); ++i) {
    const ToolCallRecord& call = trajectory.tool_calls(i);
    RETURN_IF_ERROR(check_name("a tool's name in bytes", call.call().name()));
    if (call.turn() >= static_cast<uint32_t>(trajectory.turns_size())) {
      return Invalid("tool_calls[", i, "].turn is ", call.turn(),
                     "; there are ", trajectory.turns_size(), " turns");
    }
    text += call.call().name().size() + call.call().arguments_json().size() +
            call.result().content().size();
  }
  return CheckAtMost("the text in bytes", static_cast<int64_t>(text),
                     limits_.text_bytes_max);
}

absl::Status TrajectoryDoor::CheckReward(const Trajectory& trajectory) const {
  const Outcome outcome = trajectory.outcome();
  if (outcome == OUTCOME_UNSPECIFIED || !Outcome_IsValid(outcome)) {
    return Invalid("outcome ", static_cast<int>(outcome), " is none");
  }
  // Promise P4, held here and not only by whoever sends: a reward without a
  // verifier's word would train on a failure of the machine.
  const bool rewarded = IsGraded(outcome) && trajectory.verdict().verified();
  if (trajectory.has_reward() != rewarded) {
    return Invalid("has_reward is ", trajectory.has_reward(), " with outcome ",
                   Outcome_Name(outcome), " and verified ",
                   trajectory.verdict().verified(),
                   "; a reward exists iff a verifier ran and the outcome is "
                   "graded");
  }
  double sum = 0;
  double scale = 1;
  std::set<std::string> names;
  for (const RewardPart& part : trajectory.reward_parts()) {
    if (part.name().empty() || !names.insert(part.name()).second) {
      return Invalid("a reward part is called \"", part.name(),
                     "\"; each has a name of its own");
    }
    const double term = part.value() * part.weight();
    if (!std::isfinite(part.value()) || !std::isfinite(part.weight()) ||
        !std::isfinite(term)) {
      return Invalid("reward part ", part.name(), " is ", part.value(), " * ",
                     part.weight(), ", not finite");
    }
    sum += term;
    // Parts may cancel out: the rounding of the sum goes by their sizes, not by
    // its own.
    scale += std::fabs(term);
  }
  const double reward = trajectory.reward();
  if (!std::isfinite(reward) || std::fabs(reward) > limits_.reward_abs_max) {
    return Invalid("reward ", reward, " is not within +-",
                   limits_.reward_abs_max);
  }
  if (!rewarded) {
    if (reward == 0 && trajectory.reward_parts().empty()) {
      return absl::OkStatus();
    }
    return Invalid("an episode without a reward carries reward ", reward,
                   " and ", trajectory.reward_parts_size(), " parts");
  }
  if (std::fabs(sum - reward) > kRewardSumTolerance * scale) {
    return Invalid("reward ", reward, " is not the sum of its parts, ", sum);
  }
  return absl::OkStatus();
}

absl::StatusOr<EpisodeBranch> TrajectoryDoor::DecodeBranch(
    const Branch& branch) const {
  EpisodeBranch out;
  RETURN_IF_ERROR(DecodeTokens(branch, &out));
  RETURN_IF_ERROR(UnpackArray("logprobs", branch.logprobs(), out.sampled.size(),
                              &out.logprobs));
  for (size_t i = 0; i < out.logprobs.size(); ++i) {
    if (!std::isfinite(out.logprobs[i]) || out.logprobs[i] > kLogprobMax) {
      return Invalid("logprobs[", i, "] is ", out.logprobs[i],
                     ", not a finite log-probability");
    }
  }
  RETURN_IF_ERROR(DecodeKept(branch, &out));
  RETURN_IF_ERROR(DecodeRoutes(branch, &out));
  RETURN_IF_ERROR(DecodeVersions(branch, &out));
  return out;
}

absl::Status TrajectoryDoor::DecodeTokens(const Branch& branch,
                                          EpisodeBranch* out) const {
  const size_t count = PackedCount<int32_t>(branch.tokens());
  RETURN_IF_ERROR(UnpackArray("tokens", branch.tokens(), count, &out->tokens));
  if (count == 0) return Invalid("it has no tokens");
  for (size_t t = 0; t < count; ++t) {
    if (out->tokens[t] < 0 || out->tokens[t] >= limits_.vocab_size) {
      return Invalid("tokens[", t, "] is ", out->tokens[t],
                     ", outside the vocabulary of ", limits_.vocab_size);
    }
  }
  const std::string& bitmap = branch.sampled();
  // Bits above the count are looked at too: a token that is not there could be
  // marked.
  if (bitmap.size() != (count + 7) / 8) {
    return Invalid("sampled has ", bitmap.size(), " bytes, not ",
                   (count + 7) / 8, " for ", count, " tokens");
  }
  for (size_t t = 0; t < bitmap.size() * 8; ++t) {
    if (!PackedBit(bitmap, t)) continue;
    if (t == 0 || t >= count) {
      return Invalid("sampled marks token ", t, " of ", count,
                     "; the first has nothing to be sampled from");
    }
    out->sampled.push_back(static_cast<int32_t>(t));
  }
  return absl::OkStatus();
}

absl::Status TrajectoryDoor::DecodeKept(const Branch& branch,
                                        EpisodeBranch* out) const {
  const size_t sampled = out->sampled.size();
  RETURN_IF_ERROR(UnpackArray("kept_offsets", branch.kept_offsets(),
                              sampled + 1, &out->kept_offsets));
  const size_t ids = PackedCount<int32_t>(branch.kept_ids());
  RETURN_IF_ERROR(
      UnpackArray("kept_ids", branch.kept_ids(), ids, &out->kept_ids));
  if (out->kept_offsets[0] != 0 ||
      static_cast<uint32_t>(out->kept_offsets[sampled]) != ids) {
    return Invalid("kept_offsets runs from ", out->kept_offsets[0], " to ",
                   out->kept_offsets[sampled], ", not from 0 to ", ids);
  }
  for (size_t row = 0; row < sampled; ++row) {
    const int64_t begin = out->kept_offsets[row];
    const int64_t end = out->kept_offsets[row + 1];
    if (end < begin || end > static_cast<int64_t>(ids)) {
      return Invalid("kept_offsets[", row + 1, "] is ", end, " after ", begin,
                     " with ", ids, " ids");
    }
    // Rows of the record, not of the batch: the head sums over exactly these
    // ids, in this order, and finds the sampler's bits only then.
    if (begin == end) continue;  // the whole vocabulary
    if (!limits_.kept_sets_allowed) {
      return Invalid("kept set ", row, " has ", end - begin,
                     " ids; with keep_sampling_mask off there are none");
    }
    RETURN_IF_ERROR(
        CheckAtMost("the size of a kept set", end - begin, limits_.kept_max));
    int32_t previous = -1;
    for (int64_t i = begin; i < end; ++i) {
      const int32_t id = out->kept_ids[static_cast<size_t>(i)];
      if (id <= previous || id >= limits_.vocab_size) {
        return Invalid("kept set ", row, " has id ", id, " after ", previous,
                       "; ids ascend below ", limits_.vocab_size);
      }
      previous = id;
    }
    const int32_t token = out->tokens[static_cast<size_t>(out->sampled[row])];
    // Its probability over the kept set would be 0, and the ratio no number.
    if (!std::binary_search(out->kept_ids.begin() + begin,
                            out->kept_ids.begin() + end, token)) {
      return Invalid("kept set ", row, " lacks the sampled id ", token);
    }
  }
  return absl::OkStatus();
}

absl::Status TrajectoryDoor::DecodeRoutes(const Branch& branch,
                                          EpisodeBranch* out) const {
  const std::string& bytes = branch.routes();
  if (limits_.moe_layers == 0 || bytes.empty()) {
    const bool required = limits_.moe_layers > 0 && limits_.routes_required &&
                          out->tokens.size() > 1;
    if (required) return Invalid("routes are missing; keep routing needs them");
    if (!bytes.empty()) return Invalid("a dense model has no routes");
    return absl::OkStatus();
  }
  // By the model, not by what the message says: a width that does not fit would
  // read other experts.
  const size_t width = limits_.experts > 256 ? 2 : 1;
  const auto per_row = static_cast<size_t>(limits_.experts_per_token);
  const size_t entries = (out->tokens.size() - 1) *
                         static_cast<size_t>(limits_.moe_layers) * per_row;
  if (branch.route_bytes() != width || bytes.size() != entries * width) {
    return Invalid("routes has ", bytes.size(), " bytes of ",
                   branch.route_bytes(), " each, not ", entries * width, " of ",
                   width);
  }
  out->routes.resize(entries);
  for (size_t i = 0; i < entries; ++i) {
    uint32_t expert = static_cast<unsigned char>(bytes[i * width]);
    if (width == 2) {
      expert |=
          static_cast<uint32_t>(static_cast<unsigned char>(bytes[i * 2 + 1]))
          << 8;
    }
    out->routes[i] = static_cast<int32_t>(expert);
    const int32_t previous = i % per_row == 0 ? -1 : out->routes[i - 1];
    if (out->routes[i] <= previous || out->routes[i] >= limits_.experts) {
      return Invalid("routes[", i, "] is expert ", expert, " after ", previous,
                     "; a token's experts ascend, distinct, below ",
                     limits_.experts);
    }
  }
  return absl::OkStatus();
}

absl::Status TrajectoryDoor::DecodeVersions(const Branch& branch,
                                            EpisodeBranch* out) const {
  uint32_t covered = 0;
  for (const VersionSpan& span : branch.versions()) {
    // Without a gap and without an overlap: the age is the oldest token's, and
    // one that no span covers would have none.
    if (span.begin() != covered || span.end() <= span.begin()) {
      return Invalid("version span [", span.begin(), ", ", span.end(),
                     ") does not follow on ", covered);
    }
    covered = span.end();
    out->versions.push_back({span.begin(), span.end(), span.version()});
  }
  if (covered != out->sampled.size()) {
    return Invalid("version spans cover ", covered, " of ", out->sampled.size(),
                   " sampled tokens");
  }
  return absl::OkStatus();
}

}  // namespace temper
