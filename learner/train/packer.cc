#include "learner/train/packer.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"

namespace temper {
namespace {

// A branch already in the batch: the row of each of its positions.
struct PlacedBranch {
  const EpisodeBranch* branch;
  std::vector<int32_t> rows;
};

class Builder {
 public:
  Builder(const ModelConfig& config, bool keep_routing, PrefixSharing sharing)
      : route_width_(config.moe_layers() * config.num_experts_per_tok),
        keep_routing_(keep_routing),
        sharing_(sharing) {
    Reset();
  }

  bool empty() const { return placed_.empty(); }

  // Rows the batch would have with `episode` added, at most: what its branches
  // share among themselves is not looked for.
  int64_t RowsWith(const Episode& episode) const {
    int64_t rows = packed_.batch.size();
    for (const EpisodeBranch& branch : episode.branches) {
      rows += Inputs(branch) - CommonPrefix(branch).length;
    }
    return rows;
  }

  // Entries its block table would have then, likewise.
  int64_t TableWith(const Episode& episode) const {
    size_t sequences = placed_.size(), longest = 0;
    for (const PlacedBranch& placed : placed_) {
      longest = std::max(longest, placed.rows.size());
    }
    for (const EpisodeBranch& branch : episode.branches) {
      ++sequences;
      longest = std::max<size_t>(longest, Inputs(branch));
    }
    return static_cast<int64_t>(sequences * longest);
  }

  void Add(const Episode& episode, int32_t index) {
    for (const EpisodeBranch& branch : episode.branches) {
      if (branch.tokens.size() > 1) AddBranch(branch, index);
    }
  }

  PackedBatch Take() {
    WriteBlocks();
    PackedBatch done = std::move(packed_);
    Reset();
    return done;
  }

 private:
  struct Prefix {
    int32_t length = 0;
    const PlacedBranch* parent = nullptr;
  };

  static int32_t Inputs(const EpisodeBranch& branch) {
    return branch.tokens.empty()
               ? 0
               : static_cast<int32_t>(branch.tokens.size()) - 1;
  }

  void Reset() {
    packed_ = PackedBatch();
    packed_.batch.page_tokens = 1;
    packed_.kept_offsets.push_back(0);
    placed_.clear();
  }

  bool SameAt(const EpisodeBranch& a, const EpisodeBranch& b,
              int32_t position) const {
    // Where routes are replayed they are an input of the row, as the token is:
    // rows that differ in them compute different things.
    if (a.tokens[position] != b.tokens[position]) return false;
    const auto begin = position * route_width_;
    return !keep_routing_ || std::equal(a.routes.begin() + begin,
                                        a.routes.begin() + begin + route_width_,
                                        b.routes.begin() + begin);
  }

  // The longest prefix that an earlier branch of this batch already has; ties
  // go to the earliest.
  Prefix CommonPrefix(const EpisodeBranch& branch) const {
    Prefix best;
    if (sharing_ == PrefixSharing::kUnshared) return best;
    for (const PlacedBranch& placed : placed_) {
      const int32_t limit = std::min(Inputs(branch), Inputs(*placed.branch));
      int32_t length = 0;
      // From position 0 on: a row is what its whole prefix makes of it.
      while (length < limit && SameAt(branch, *placed.branch, length)) ++length;
      if (length > best.length) best = {length, &placed};
    }
    return best;
  }

  void AddBranch(const EpisodeBranch& branch, int32_t episode) {
    TokenBatch& batch = packed_.batch;
    const Prefix prefix = CommonPrefix(branch);
    const int32_t inputs = Inputs(branch);
    // A sequence of its own, though its first rows may be another's: the block
    // table names them row by row (pages of one token).
    const auto sequence = static_cast<int32_t>(placed_.size());
    std::vector<int32_t> rows;
    if (prefix.parent != nullptr) {
      rows.assign(prefix.parent->rows.begin(),
                  prefix.parent->rows.begin() + prefix.length);
    }
    for (int32_t position = prefix.length; position < inputs; ++position) {
      const auto row = static_cast<int32_t>(batch.size());
      rows.push_back(row);
      batch.tokens.push_back(branch.tokens[position]);
      batch.position.push_back(position);
      batch.sequence.push_back(sequence);
      batch.slot.push_back(row);
      AddRoutes(branch, position);
    }
    packed_.tokens_unshared += inputs;
    AddSampled(branch, episode, rows);
    placed_.push_back({&branch, std::move(rows)});
  }

  void AddRoutes(const EpisodeBranch& branch, int32_t position) {
    std::vector<int32_t>& routes = packed_.batch.routes;
    if (keep_routing_) {
      const auto begin = branch.routes.begin() + position * route_width_;
      routes.insert(routes.end(), begin, begin + route_width_);
    } else {
      routes.insert(routes.end(), route_width_, -1);
    }
  }

  void AddSampled(const EpisodeBranch& branch, int32_t episode,
                  const std::vector<int32_t>& rows) {
    for (size_t i = 0; i < branch.sampled.size(); ++i) {
      const int32_t position = branch.sampled[i];
      CHECK(position >= 1) << "a first token has nothing to predict it";
      packed_.sampled.push_back(
          // The row before a token predicts it. Sampled tokens come out in
          // episode order, shared rows or not: TrainStep relies on it.
          {rows[position - 1], episode, branch.tokens[position]});
      packed_.logp_old.push_back(branch.logprobs[i]);
      packed_.kept_ids.insert(
          packed_.kept_ids.end(),
          branch.kept_ids.begin() + branch.kept_offsets[i],
          branch.kept_ids.begin() + branch.kept_offsets[i + 1]);
      packed_.kept_offsets.push_back(
          static_cast<int32_t>(packed_.kept_ids.size()));
    }
  }

  void WriteBlocks() {
    TokenBatch& batch = packed_.batch;
    size_t longest = 0;
    for (const PlacedBranch& placed : placed_) {
      longest = std::max(longest, placed.rows.size());
    }
    batch.blocks_max = static_cast<int32_t>(longest);
    batch.blocks.assign(longest * placed_.size(), 0);
    for (size_t s = 0; s < placed_.size(); ++s) {
      std::copy(placed_[s].rows.begin(), placed_[s].rows.end(),
                batch.blocks.begin() + s * longest);
    }
  }

  const int64_t route_width_;
  const bool keep_routing_;
  const PrefixSharing sharing_;
  PackedBatch packed_;
  std::vector<PlacedBranch> placed_;
};

}  // namespace

absl::StatusOr<std::vector<PackedBatch>> PackEpisodes(
    const ModelConfig& config, const std::vector<const Episode*>& episodes,
    int64_t tokens_max, bool keep_routing, PrefixSharing sharing) {
  Builder builder(config, keep_routing, sharing);
  std::vector<PackedBatch> batches;
  for (size_t i = 0; i < episodes.size(); ++i) {
    const Episode& episode = *episodes[i];
    if (!builder.empty() && (builder.RowsWith(episode) > tokens_max ||
                             builder.TableWith(episode) >
                                 Transformer::kPackTableAToken * tokens_max)) {
      batches.push_back(builder.Take());
    }
    if (const int64_t rows = builder.RowsWith(episode); rows > tokens_max) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "episode (group ", episode.group, ", sample ", episode.sample,
          ") has ", rows, " tokens; a training batch holds ", tokens_max,
          ". Lower max_tokens"));
    }
    builder.Add(episode, static_cast<int32_t>(i));
  }
  if (!builder.empty()) batches.push_back(builder.Take());
  return batches;
}

}  // namespace temper
