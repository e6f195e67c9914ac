#include "rollout/engine.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/episode_limit.h"

namespace temper {
namespace {

// Kept ids of a token that memory is reserved for, at most: sets that are
// larger on average let the record grow, by doubling.
constexpr int64_t kKeptReserved = 64;

// Of a token of a sequence sampled so.
int64_t KeptReserved(const SequenceOptions& options) {
  const SampleOptions& sampling = options.sampling;
  if (options.mask == SamplingMask::kDrop) return 0;
  const int64_t top_k = sampling.top_k > 0 ? sampling.top_k : kKeptReserved;
  return std::min({top_k, int64_t{sampling.kept_max}, kKeptReserved});
}

absl::Status ValidateOptions(const EngineOptions& options) {
  const auto check = [](const char* name, int64_t value, int64_t low,
                        int64_t high) -> absl::Status {
    if (value >= low && value <= high) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("engine: ", name, " is ",
                                                   value, "; it must be in [",
                                                   low, ", ", high, "]"));
  };
  RETURN_IF_ERROR(check("pages", options.pages, 1, 1 << 24));
  RETURN_IF_ERROR(check("batch_tokens_max", options.batch_tokens_max,
                        kPageTokens, 1 << 20));
  RETURN_IF_ERROR(check("sequences_max", options.sequences_max, 1, 1 << 20));
  return check("sample_rows_max", options.sample_rows_max, 1, 1 << 16);
}

// Entries of a sequence's row in the block table. A power of two, so that steps
// have few shapes: the table's width does not change with every page.
int64_t BlocksMax(int64_t tokens) {
  const int64_t pages = (tokens + kPageTokens - 1) / kPageTokens;
  return static_cast<int64_t>(
      std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(pages, 1))));
}

int64_t CapacityTokens(const ModelConfig& config,
                       const EngineOptions& options) {
  return std::min<int64_t>({config.max_position_embeddings, kEpisodeTokensMax,
                            static_cast<int64_t>(options.pages) * kPageTokens});
}

// At most: each has a token in it.
int64_t SequencesOfAStep(const EngineOptions& options) {
  return std::min(options.sequences_max, options.batch_tokens_max);
}

Transformer::Limits LimitsOf(const ModelConfig& config,
                             const EngineOptions& options) {
  const int64_t positions = CapacityTokens(config, options);
  return {.tokens = options.batch_tokens_max,
          .positions = positions,
          .table = SequencesOfAStep(options) * BlocksMax(positions)};
}

// Memory for all that a turn may add, so that its steps take none; but for kept
// sets above kKeptReserved, whose size nobody knows before.
void ReserveTurn(Sequence* sequence) {
  SequenceRecord& record = sequence->record;
  const auto size = static_cast<size_t>(record.size() + sequence->tokens_left);
  const size_t pages = (size + kPageTokens - 1) / kPageTokens;
  const auto sampled =
      static_cast<size_t>(record.sampled_count() + sequence->tokens_left);
  record.tokens.reserve(size);
  record.sampled.reserve(size);
  record.route_versions.reserve(size);
  record.logprobs.reserve(sampled);
  record.versions.reserve(sampled);
  record.kept_offsets.reserve(sampled + 1);
  record.kept_ids.reserve(record.kept_ids.size() +
                          KeptReserved(sequence->options) *
                              sequence->tokens_left);
  sequence->pages.reserve(pages);
  sequence->page_hashes.reserve(pages);
}

int32_t SlotOf(const Sequence& sequence, int64_t position) {
  return sequence.pages[position / kPageTokens] * kPageTokens +
         static_cast<int32_t>(position % kPageTokens);
}

// As much as any step of the engine may put into them.
void ReserveBatch(const Transformer::Limits& limits, int64_t routes_per_token,
                  TokenBatch* batch) {
  for (std::vector<int32_t>* part :
       {&batch->tokens, &batch->position, &batch->sequence, &batch->slot}) {
    part->reserve(limits.tokens);
  }
  batch->blocks.reserve(limits.table);
  batch->routes.reserve(limits.tokens * routes_per_token);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    Backend* backend, PublishedWeights* weights, uint64_t version,
    const EngineOptions& options) {
  RETURN_IF_ERROR(ValidateOptions(options));
  const ModelConfig& config = weights->config();
  std::unique_ptr<Engine> engine(new Engine());
  Engine& e = *engine;
  e.backend_ = backend;
  e.weights_ = weights;
  e.version_ = version;
  e.options_ = options;
  // An episode longer than the cache could never be scheduled: with this bound
  // one alone always fits, whatever the others hold.
  e.capacity_tokens_ = CapacityTokens(config, options);
  e.routes_per_token_ = config.moe_layers() * config.num_experts_per_tok;
  ASSIGN_OR_RETURN(
      e.transformer_,
      Transformer::Create(backend, weights, LimitsOf(config, options)));
  ASSIGN_OR_RETURN(
      e.cache_,
      KvCache::Create(backend, config, weights->numerics(), options.pages));
  ASSIGN_OR_RETURN(e.sampler_,
                   Sampler::Create(backend, config, options.sample_rows_max,
                                   SequencesOfAStep(options)));
  ReserveBatch(LimitsOf(config, options), e.routes_per_token_, &e.batch_);
  e.hidden_rows_.reserve(SequencesOfAStep(options));
  e.sample_rows_.reserve(SequencesOfAStep(options));
  e.blocks_ = std::make_unique<BlockManager>(options.pages);
  e.scheduler_ = std::make_unique<Scheduler>(
      options.batch_tokens_max, e.blocks_.get(),
      [raw = &e](Sequence* sequence) {
        // Before its pages are anybody else's. What it computes again later
        // replays them.
        raw->preempt_status_.Update(raw->ReadRoutes({sequence}));
      });
  return engine;
}

int64_t Engine::BytesFor(const ModelConfig& config, const Numerics& numerics,
                         const EngineOptions& options) {
  return KvCache::BytesFor(config, numerics, options.pages) +
         Transformer::InferenceBytes(config, numerics,
                                     LimitsOf(config, options)) +
         Sampler::BytesFor(config, options.sample_rows_max,
                           SequencesOfAStep(options));
}

absl::StatusOr<int64_t> Engine::Open(const SequenceOptions& options) {
  RETURN_IF_ERROR(ValidateSampleOptions(options.sampling));
  if (open_sequences() >= options_.sequences_max) {
    return absl::ResourceExhaustedError(
        absl::StrCat("engine: sequences_max ", options_.sequences_max,
                     " sequences are open; close one first"));
  }
  auto sequence = std::make_unique<Sequence>();
  sequence->id = next_id_++;
  sequence->options = options;
  scheduler_->Add(sequence.get());
  // Ids ascend: the scheduler's age, and the order of whatever is decided among
  // sequences.
  const int64_t id = sequence->id;
  sequences_[id] = std::move(sequence);
  return id;
}

Sequence* Engine::Find(int64_t id) const {
  const auto found = sequences_.find(id);
  CHECK(found != sequences_.end()) << "sequence " << id << " is not open";
  return found->second.get();
}

const SequenceRecord& Engine::record(int64_t id) const {
  return Find(id)->record;
}

absl::Status Engine::Extend(int64_t id, const std::vector<int32_t>& tokens,
                            int64_t sample_max) {
  Sequence* const sequence = Find(id);
  SequenceRecord& record = sequence->record;
  const int64_t size = record.size() + static_cast<int64_t>(tokens.size());
  if (sequence->running || size == 0 || sample_max < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("engine: cannot extend sequence ", id, " (",
                     sequence->running ? "running" : "idle", ") to ", size,
                     " tokens and sample ", sample_max));
  }
  for (const int32_t token : tokens) {
    if (token < 0 || token >= config().vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("engine: token id ", token,
                       " is outside the vocabulary of ", config().vocab_size));
    }
  }
  // At least one token is to be sampled behind it.
  if (size >= capacity_tokens_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "engine: a sequence of ", size, " tokens leaves no room to sample in ",
        capacity_tokens_,
        " (the least of the model's positions, the cache and the longest "
        "episode a learner takes)"));
  }
  record.tokens.insert(record.tokens.end(), tokens.begin(), tokens.end());
  record.sampled.resize(record.tokens.size(), 0);
  sequence->tokens_left = std::min(sample_max, capacity_tokens_ - size);
  ReserveTurn(sequence);
  sequence->running = true;
  scheduler_->Wake(sequence);
  ++running_;
  return absl::OkStatus();
}

absl::Status Engine::Stop(int64_t id) {
  Sequence* const sequence = Find(id);
  if (!sequence->running) return absl::OkStatus();
  sequence->running = false;
  --running_;
  return ReadRoutes({sequence});
}

void Engine::Close(int64_t id) {
  // Its routes need not be read: the record goes with it, and what others find
  // in its pages lies beside their keys.
  Sequence* const sequence = Find(id);
  if (sequence->running) --running_;
  scheduler_->Remove(sequence);
  sequences_.erase(id);
}

void Engine::MakeBatch(const std::vector<Chunk>& chunks) {
  TokenBatch& batch = batch_;
  for (std::vector<int32_t>* part :
       {&batch.tokens, &batch.position, &batch.sequence, &batch.slot,
        &batch.blocks, &batch.routes}) {
    part->clear();
  }
  int64_t longest = 0;
  for (const Chunk& chunk : chunks) {
    longest = std::max(longest, chunk.begin + chunk.count);
  }
  batch.blocks_max = static_cast<int32_t>(BlocksMax(longest));
  for (size_t row = 0; row < chunks.size(); ++row) {
    const Chunk& chunk = chunks[row];
    const Sequence& sequence = *chunk.sequence;
    const SequenceRecord& record = sequence.record;
    // A sequence may hold pages beyond this chunk's end.
    const size_t pages =
        std::min<size_t>(sequence.pages.size(), batch.blocks_max);
    batch.blocks.insert(batch.blocks.end(), sequence.pages.begin(),
                        sequence.pages.begin() + pages);
    // Padded; positions behind the sequence's end are not read.
    batch.blocks.resize((row + 1) * batch.blocks_max, 0);
    const int64_t end = chunk.begin + chunk.count;
    for (int64_t position = chunk.begin; position < end; ++position) {
      batch.tokens.push_back(record.tokens[position]);
      batch.position.push_back(static_cast<int32_t>(position));
      batch.sequence.push_back(static_cast<int32_t>(row));
      batch.slot.push_back(SlotOf(sequence, position));
    }
    const int64_t known = std::min(record.fed(), end);  // to be replayed
    if (known > chunk.begin) {
      CHECK(known * routes_per_token_ <=
            static_cast<int64_t>(record.routes.size()))
          << "a sequence gave pages back whose routes were never read";
      batch.routes.insert(
          batch.routes.end(),
          record.routes.begin() + chunk.begin * routes_per_token_,
          record.routes.begin() + known * routes_per_token_);
    }
    // Below 0: the router chooses. What was fed before keeps the route of its
    // first forward (DESIGN.md section 10), also after a preemption and under
    // other weights.
    batch.routes.resize(batch.tokens.size() * routes_per_token_, -1);
  }
  // Rows that only fill the batch: each reads the first key of the first
  // sequence, writes none, and nobody looks at what it comes to. Nor at rows of
  // the block table that no token names.
  const auto rows = static_cast<size_t>(
      std::min(backend_->BucketRows(batch.size()), options_.batch_tokens_max));
  const auto sequences = static_cast<size_t>(
      std::min(backend_->BucketRows(static_cast<int64_t>(chunks.size())),
               SequencesOfAStep(options_)));
  batch.blocks.resize(sequences * batch.blocks_max, 0);
  batch.tokens.resize(rows, 0);
  batch.position.resize(rows, 0);
  batch.sequence.resize(rows, 0);
  batch.slot.resize(rows, -1);
  batch.routes.resize(rows * routes_per_token_, -1);
}

void Engine::NoteRoutes(const std::vector<Chunk>& chunks) {
  // Which weights fixed a token's routes names its keys (block_manager.h); what
  // they are may come later. Pages found by prefix, in this forward too, bring
  // their routes along.
  for (const Chunk& chunk : chunks) {
    std::vector<uint64_t>& versions = chunk.sequence->record.route_versions;
    const auto computed = static_cast<size_t>(chunk.sequence->computed);
    // What was fixed before, and is only computed again, keeps its version.
    if (versions.size() < computed) versions.resize(computed, version_);
  }
}

absl::Status Engine::ReadRoutes(const std::vector<Sequence*>& sequences) {
  if (routes_per_token_ == 0) return absl::OkStatus();
  std::vector<int32_t> slots;
  for (const Sequence* sequence : sequences) {
    const SequenceRecord& record = sequence->record;
    const int64_t read =
        static_cast<int64_t>(record.routes.size()) / routes_per_token_;
    // Not to `computed`: what a forward was put together for but has not run
    // has no routes yet.
    for (int64_t p = read; p < record.fed(); ++p) {
      slots.push_back(SlotOf(*sequence, p));
    }
  }
  if (slots.empty()) return absl::OkStatus();
  std::vector<int32_t> routes;
  RETURN_IF_ERROR(cache_->ReadRoutes(slots, &routes));
  auto next = routes.begin();
  for (Sequence* const sequence : sequences) {
    SequenceRecord& record = sequence->record;
    const int64_t count = record.fed() * routes_per_token_ -
                          static_cast<int64_t>(record.routes.size());
    record.routes.insert(record.routes.end(), next, next + count);
    next += count;
  }
  return absl::OkStatus();
}

bool Engine::Append(const SampledTokens& tokens, int64_t row,
                    Sequence* sequence, StopReason* reason) {
  SequenceRecord& record = sequence->record;
  record.tokens.push_back(tokens.ids[row]);
  record.sampled.push_back(1);
  record.logprobs.push_back(tokens.logprobs[row]);
  record.kept_ids.insert(record.kept_ids.end(), tokens.kept(row),
                         tokens.kept(row) + tokens.kept_counts[row]);
  record.kept_offsets.push_back(static_cast<uint32_t>(record.kept_ids.size()));
  // A version a token: an episode may see a flip between two of them.
  record.versions.push_back(version_);
  ++sampled_tokens_;
  --sequence->tokens_left;
  const bool stops = tokens.ids[row] == sequence->options.stop_token;
  *reason = stops ? StopReason::kStopToken : StopReason::kLength;
  return stops || sequence->tokens_left == 0;
}

absl::Status Engine::SampleChunks(const std::vector<Chunk>& chunks,
                                  const Tensor& hidden,
                                  std::vector<StoppedSequence>* stopped) {
  hidden_rows_.clear();
  sample_rows_.clear();
  int32_t end = 0;
  for (const Chunk& chunk : chunks) {
    end += static_cast<int32_t>(chunk.count);
    if (!chunk.samples) continue;
    const SequenceOptions& options = chunk.sequence->options;
    hidden_rows_.push_back(end - 1);
    sample_rows_.push_back({.seed = options.key.seed,
                            .group = options.key.group,
                            .sample = options.key.sample,
                            .ordinal = static_cast<uint32_t>(
                                chunk.sequence->record.sampled_count()),
                            .options = options.sampling,
                            .keep = options.mask == SamplingMask::kKeep});
  }
  // Nothing to wait for: what was enqueued is looked at by a later step.
  if (sample_rows_.empty()) return absl::OkStatus();
  // All rows at once: a token does not depend on who is sampled beside it.
  SampledTokens tokens;
  RETURN_IF_ERROR(sampler_->Sample(hidden, weights_->lm_head(), hidden_rows_,
                                   sample_rows_, &tokens));
  int64_t row = 0;
  for (const Chunk& chunk : chunks) {
    StopReason reason;
    if (!chunk.samples || !Append(tokens, row++, chunk.sequence, &reason)) {
      continue;
    }
    chunk.sequence->running = false;
    --running_;
    stopped->push_back({chunk.sequence->id, reason});
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StoppedSequence>> Engine::Step() {
  std::vector<StoppedSequence> stopped;
  const std::vector<Chunk>& chunks = scheduler_->Schedule(version_);
  RETURN_IF_ERROR(preempt_status_);
  if (chunks.empty()) {
    CHECK_EQ(running_, 0) << "running sequences, and none can be scheduled";
    return stopped;
  }
  MakeBatch(chunks);
  Tensor hidden;
  RETURN_IF_ERROR(transformer_->Forward(&batch_, cache_.get(), nullptr,
                                        {.read_routes = false}, &hidden));
  NoteRoutes(chunks);
  RETURN_IF_ERROR(
      transformer_->Explained(SampleChunks(chunks, hidden, &stopped)));
  ++steps_;
  if (!stopped.empty()) {
    std::vector<Sequence*> ended;
    for (const StoppedSequence& stop : stopped) ended.push_back(Find(stop.id));
    RETURN_IF_ERROR(ReadRoutes(ended));
  }
  // Decoding ones come before those that prefill; callers see them by age.
  std::sort(stopped.begin(), stopped.end(),
            [](const StoppedSequence& a, const StoppedSequence& b) {
              return a.id < b.id;
            });
  return stopped;
}

absl::Status Engine::SetWeights(uint64_t version,
                                const std::vector<std::byte>& bytes) {
  if (version <= version_) {
    return absl::InvalidArgumentError(absl::StrCat(
        "engine: weight version ", version, " is not above the present ",
        version_, "; versions are never reused"));
  }
  RETURN_IF_ERROR(weights_->SetBytes(bytes));
  // Their keys are of the old weights. They are computed again, with their
  // recorded routes, so that no token is sampled from a mix.
  scheduler_->PreemptAll();
  RETURN_IF_ERROR(preempt_status_);
  blocks_->ForgetAll();
  version_ = version;
  return absl::OkStatus();
}

EngineStats Engine::stats() const {
  return {scheduler_->stats(), steps_, sampled_tokens_};
}

}  // namespace temper
