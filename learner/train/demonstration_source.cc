#include "learner/train/demonstration_source.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/byte_order_mark.h"
#include "kernels/base/checksum.h"
#include "kernels/base/fault_list.h"
#include "kernels/base/log.h"
#include "kernels/base/rng.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/bpe_trainer.h"
#include "kernels/model/chat/tokens.h"
#include "proto/wire/episode_limit.h"
#include "proto/wire/json_line.h"

namespace temper {
namespace {

constexpr int64_t kPreambleWeight = 20;

class FileSource : public DemonstrationSource {
 public:
  FileSource(std::string path, std::string text)
      : path_(std::move(path)), text_(std::move(text)) {
    size_t number = 0;
    for (size_t at = 0; at < text_.size();) {
      const size_t end = std::min(text_.find('\n', at), text_.size());
      ++number;
      if (!IsBlankLine({text_.data() + at, end - at})) {
        lines_.push_back({at, end - at, number});
      }
      at = end + 1;
    }
  }

  uint64_t size() const override { return lines_.size(); }

  absl::Status CheckMix(const std::string& mix) const override {
    if (mix.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        "mix \"", mix, "\": a demonstrations file has no mixes; leave it out"));
  }

  absl::StatusOr<Demonstration> Get(const std::string&,
                                    uint64_t index) const override {
    const Line& line = lines_[index];
    Demonstration demonstration;
    RETURN_IF_ERROR(ParseJsonLine(text_.substr(line.at, line.size),
                                  Place(index), &demonstration));
    return demonstration;
  }

  std::string Place(uint64_t index) const override {
    return absl::StrCat(path_, ":", lines_[index].number);
  }

  std::string digest() const override { return HexOf(Sha256Of(text_)); }

 private:
  struct Line {
    size_t at;
    size_t size;
    size_t number;  // from 1
  };
  const std::string path_;
  const std::string text_;
  std::vector<Line> lines_;  // constant after construction
};

void DropPreamble(Demonstration* demonstration) {
  demonstration->clear_tools();
  // Backwards, for each removal moves what comes after it.
  auto* const messages = demonstration->mutable_messages();
  for (int i = messages->size() - 1; i >= 0; --i) {
    if (messages->Get(i).role() == "system") {
      messages->DeleteSubrange(i, 1);
    }
  }
}

absl::StatusOr<std::string> RenderText(const Demonstration& demonstration) {
  return RenderChatText(
      {demonstration.messages().begin(), demonstration.messages().end()},
      {demonstration.tools().begin(), demonstration.tools().end()},
      ChatOptions());
}

// What is wrong, begun with its place.
std::string Placed(const std::string& place, const absl::Status& status) {
  const std::string message(status.message());
  return absl::StartsWith(message, place) ? message
                                          : absl::StrCat(place, ": ", message);
}

// Demonstrations begin .. end - 1, which these stages take.
struct Part {
  uint64_t begin = 0;
  uint64_t end = 0;
  std::vector<const SftStage*> stages;
};

// What is to be checked: of `count` all, once for each way that a stage shows
// them; of an endless stream what `steps` steps reach.
std::vector<Part> PartsOf(const SftConfig& config, int64_t steps,
                          uint64_t count) {
  std::vector<Part> parts;
  if (count > 0) {
    Part& all = parts.emplace_back();
    all.end = count;
    for (const SftStage& stage : config.stage()) {
      if (std::none_of(all.stages.begin(), all.stages.end(),
                       [&stage](const SftStage* other) {
                         return other->preamble() == stage.preamble();
                       })) {
        all.stages.push_back(&stage);
      }
    }
    return parts;
  }
  uint64_t next = 0;
  for (const SftStage& stage : config.stage()) {
    const auto taken = std::min<int64_t>(stage.steps(), steps);
    steps -= taken;
    const uint64_t begin = next;
    next += static_cast<uint64_t>(taken) * config.demonstrations_per_step();
    parts.push_back({begin, next, {&stage}});
  }
  return parts;
}

// Checks one demonstration as `stages` show it; without `chat`, but for what
// takes tokens.
absl::Status CheckOne(const DemonstrationSource& source, uint64_t index,
                      const std::vector<const SftStage*>& stages,
                      const ModelConfig& model, const ChatTemplate* chat,
                      DemonstrationTotals* totals) {
  ++totals->demonstrations;
  for (const SftStage* stage : stages) {
    ASSIGN_OR_RETURN(const Demonstration demonstration,
                     source.Get(stage->mix(), index));
    if (chat == nullptr) {
      RETURN_IF_ERROR(RenderText(demonstration).status());
      continue;
    }
    ASSIGN_OR_RETURN(const Episode episode,
                     EncodeDemonstration(*chat, model, *stage, demonstration));
    const EpisodeBranch& branch = episode.branches.front();
    const auto tokens = static_cast<int64_t>(branch.tokens.size());
    totals->longest = std::max(totals->longest, tokens);
    if (stage != stages.front()) continue;
    totals->tokens += tokens;
    totals->learnt += static_cast<int64_t>(branch.sampled.size());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DemonstrationSource>> DemonstrationsOfText(
    const std::string& path, std::string text) {
  RETURN_IF_ERROR(RefuseByteOrderMark(text, path));
  auto source = std::make_unique<FileSource>(path, std::move(text));
  if (source->size() > 0) return source;
  return absl::InvalidArgumentError(
      absl::StrCat(path, " holds no demonstrations"));
}

uint64_t DemonstrationOrder::At(uint64_t position) {
  if (count_ == 0) return position;
  const uint64_t epoch = position / count_;
  if (order_.empty() || epoch != epoch_) {
    // One epoch at a time: a resumed making asks for positions in the middle of
    // one and must find the same order.
    order_ = Permutation({seed_, RngPurpose::kDemonstrationOrder, epoch},
                         static_cast<uint32_t>(count_));
    epoch_ = epoch;
  }
  return order_[position % count_];
}

absl::StatusOr<Episode> EncodeDemonstration(const ChatTemplate& chat,
                                            const ModelConfig& model,
                                            const SftStage& stage,
                                            Demonstration demonstration) {
  if (!stage.preamble()) DropPreamble(&demonstration);
  ASSIGN_OR_RETURN(
      RenderedChat rendered,
      chat.Render(
          {demonstration.messages().begin(), demonstration.messages().end()},
          {demonstration.tools().begin(), demonstration.tools().end()},
          ChatOptions()));
  const auto tokens = static_cast<int64_t>(rendered.tokens.size());
  if (tokens > kEpisodeTokensMax || tokens > model.max_position_embeddings) {
    return absl::InvalidArgumentError(
        absl::StrCat("messages: ", tokens, " tokens; at most ",
                     std::min(kEpisodeTokensMax, model.max_position_embeddings),
                     kEpisodeTokensMax <= model.max_position_embeddings
                         ? " may be one conversation's"
                         : " by the model's max_position_embeddings",
                     "; shorten it"));
  }
  EpisodeBranch branch;
  branch.tokens = std::move(rendered.tokens);
  branch.kept_offsets.push_back(0);
  for (size_t t = 0; t < branch.tokens.size(); ++t) {
    if (!rendered.sampled[t]) continue;
    branch.sampled.push_back(static_cast<int32_t>(t));
    // Nobody sampled these: log-probabilities and kept sets are there because
    // an episode has one of each a sampled token.
    branch.logprobs.push_back(0);
    branch.kept_offsets.push_back(0);
  }
  if (branch.sampled.empty()) {
    return absl::InvalidArgumentError(
        "messages: no assistant message after the last user message, so there "
        "is nothing to learn; end with an assistant's");
  }
  Episode episode;
  episode.branches.push_back(std::move(branch));
  return episode;
}

absl::StatusOr<DemonstrationTotals> CheckDemonstrations(
    const SftConfig& config, int64_t steps, const ModelConfig& model,
    const ChatTemplate* chat, const DemonstrationSource& source,
    const std::function<bool(uint64_t checked)>& progress) {
  for (const SftStage& stage : config.stage()) {
    RETURN_IF_ERROR(source.CheckMix(stage.mix()));
  }
  DemonstrationTotals totals;
  FaultList faults;
  for (const Part& part : PartsOf(config, steps, source.size())) {
    for (uint64_t index = part.begin; index < part.end; ++index) {
      const absl::Status status =
          CheckOne(source, index, part.stages, model, chat, &totals);
      // All are looked at before anything is said: whoever mends a file wants
      // the whole list.
      if (!status.ok()) faults.Add(Placed(source.Place(index), status));
      if (!progress(totals.demonstrations)) {
        return absl::CancelledError("stopped before the first step");
      }
    }
  }
  RETURN_IF_ERROR(faults.status(absl::StrCat(
      faults.count(), " of ", totals.demonstrations,
      " demonstrations cannot be learnt from; mend or remove them:")));
  return totals;
}

absl::StatusOr<TokenizerSpec> LearnTokenizer(
    const DemonstrationSource& source, const std::vector<std::string>& mixes,
    uint64_t count, int32_t vocab_size, const std::function<bool()>& go_on) {
  std::vector<TrainingText> texts;
  for (const std::string& mix : mixes) {
    for (uint64_t i = 0; i < count; ++i) {
      ASSIGN_OR_RETURN(
          const Demonstration demonstration,
          source.Get(mix, source.size() > 0 ? i % source.size() : i));
      ASSIGN_OR_RETURN(const std::string text, RenderText(demonstration));
      // The preamble is the same in all: it is learnt from once, heavily
      // enough to be cut into few tokens.
      const size_t user = text.find(kUserToken);
      if (texts.empty()) texts.push_back({text, kPreambleWeight});
      texts.push_back(
          {user == std::string::npos ? text : text.substr(user), 1});
    }
  }
  BpeTrainerOptions options;
  options.vocab_size = vocab_size;
  options.go_on = go_on;
  return TrainBpe(texts, options);
}

}  // namespace temper
