#include "rollout/engine.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/episode_limit.h"

namespace temper {
namespace {

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

bool SameSampling(const SequenceOptions& one, const SequenceOptions& other) {
  const SampleOptions& a = one.sampling;
  const SampleOptions& b = other.sampling;
  return a.temperature == b.temperature && a.top_k == b.top_k &&
         a.top_p == b.top_p && a.min_p == b.min_p && a.kept_max == b.kept_max &&
         one.mask == other.mask;
}

int32_t SlotOf(const Sequence& sequence, int64_t position) {
  return sequence.pages[position / kPageTokens] * kPageTokens +
         static_cast<int32_t>(position % kPageTokens);
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
  e.capacity_tokens_ =
      std::min<int64_t>({config.max_position_embeddings, kEpisodeTokensMax,
                         static_cast<int64_t>(options.pages) * kPageTokens});
  e.routes_per_token_ = config.moe_layers() * config.num_experts_per_tok;
  ASSIGN_OR_RETURN(
      e.transformer_,
      Transformer::Create(backend, weights, options.batch_tokens_max));
  ASSIGN_OR_RETURN(e.cache_, KvCache::Create(backend, config, options.pages));
  ASSIGN_OR_RETURN(e.sampler_,
                   Sampler::Create(backend, config, options.sample_rows_max));
  e.blocks_ = std::make_unique<BlockManager>(options.pages);
  e.scheduler_ =
      std::make_unique<Scheduler>(options.batch_tokens_max, e.blocks_.get());
  return engine;
}

int64_t Engine::BytesFor(const ModelConfig& config,
                         const EngineOptions& options) {
  return KvCache::BytesFor(config, options.pages) +
         Transformer::InferenceBytes(config, options.batch_tokens_max) +
         Sampler::BytesFor(config, options.sample_rows_max);
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
  sequence->running = true;
  ++running_;
  return absl::OkStatus();
}

void Engine::Close(int64_t id) {
  Sequence* const sequence = Find(id);
  if (sequence->running) --running_;
  scheduler_->Remove(sequence);
  sequences_.erase(id);
}

TokenBatch Engine::MakeBatch(const std::vector<Chunk>& chunks) const {
  TokenBatch batch;
  for (const Chunk& chunk : chunks) {
    batch.blocks_max = std::max(
        batch.blocks_max, static_cast<int32_t>(chunk.sequence->pages.size()));
  }
  for (size_t row = 0; row < chunks.size(); ++row) {
    const Chunk& chunk = chunks[row];
    const Sequence& sequence = *chunk.sequence;
    const SequenceRecord& record = sequence.record;
    batch.blocks.insert(batch.blocks.end(), sequence.pages.begin(),
                        sequence.pages.end());
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
  return batch;
}

void Engine::KeepRoutes(const std::vector<Chunk>& chunks,
                        const TokenBatch& batch) {
  for (int64_t n = 0; n < batch.size(); ++n) {
    std::copy_n(batch.routes.begin() + n * routes_per_token_, routes_per_token_,
                cache_->routes(batch.slot[n]));
  }
  // Pages found by prefix, in this forward too, bring their routes along.
  for (const Chunk& chunk : chunks) {
    const Sequence& sequence = *chunk.sequence;
    SequenceRecord& record = chunk.sequence->record;
    for (int64_t p = record.fed(); p < sequence.computed; ++p) {
      const int32_t* const routes = cache_->routes(SlotOf(sequence, p));
      record.routes.insert(record.routes.end(), routes,
                           routes + routes_per_token_);
      record.route_versions.push_back(version_);
    }
  }
}

bool Engine::Append(const SampledToken& token, Sequence* sequence,
                    StopReason* reason) {
  SequenceRecord& record = sequence->record;
  record.tokens.push_back(token.id);
  record.sampled.push_back(1);
  record.logprobs.push_back(token.logprob);
  record.kept_ids.insert(record.kept_ids.end(), token.kept.begin(),
                         token.kept.end());
  record.kept_offsets.push_back(static_cast<uint32_t>(record.kept_ids.size()));
  // A version a token: an episode may see a flip between two of them.
  record.versions.push_back(version_);
  ++sampled_tokens_;
  --sequence->tokens_left;
  const bool stops = token.id == sequence->options.stop_token;
  *reason = stops ? StopReason::kStopToken : StopReason::kLength;
  return stops || sequence->tokens_left == 0;
}

absl::Status Engine::SampleChunks(const std::vector<Chunk>& chunks,
                                  const Tensor& hidden,
                                  std::vector<StoppedSequence>* stopped) {
  std::vector<std::pair<Sequence*, int32_t>> rows;  // with its hidden row
  int64_t end = 0;
  for (const Chunk& chunk : chunks) {
    end += chunk.count;
    if (chunk.samples) {
      rows.emplace_back(chunk.sequence, static_cast<int32_t>(end - 1));
    }
  }
  while (!rows.empty()) {
    // One launch for rows of equal options, which is nearly always all of them.
    // A token does not depend on who is sampled beside it: its uniform is keyed
    // by its own episode.
    const SequenceOptions options = rows.front().first->options;
    std::vector<std::pair<Sequence*, int32_t>> others;
    std::vector<Sequence*> sequences;
    std::vector<SampleRow> same;
    for (const auto& [sequence, row] : rows) {
      if (!SameSampling(sequence->options, options)) {
        others.emplace_back(sequence, row);
        continue;
      }
      sequences.push_back(sequence);
      same.push_back({row, sequence->options.key,
                      static_cast<uint32_t>(sequence->record.sampled_count())});
    }
    std::vector<SampledToken> tokens;
    RETURN_IF_ERROR(sampler_->Sample(hidden, weights_->lm_head(),
                                     options.sampling, options.mask, same,
                                     &tokens));
    for (size_t i = 0; i < sequences.size(); ++i) {
      StopReason reason;
      if (!Append(tokens[i], sequences[i], &reason)) continue;
      sequences[i]->running = false;
      --running_;
      stopped->push_back({sequences[i]->id, reason});
    }
    rows = std::move(others);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StoppedSequence>> Engine::Step() {
  std::vector<StoppedSequence> stopped;
  const std::vector<Chunk> chunks = scheduler_->Schedule(version_);
  if (chunks.empty()) {
    CHECK_EQ(running_, 0) << "running sequences, and none can be scheduled";
    return stopped;
  }
  TokenBatch batch = MakeBatch(chunks);
  Tensor hidden;
  RETURN_IF_ERROR(transformer_->Forward(&batch, cache_.get(), nullptr,
                                        ForwardOptions(), &hidden));
  KeepRoutes(chunks, batch);
  RETURN_IF_ERROR(SampleChunks(chunks, hidden, &stopped));
  ++steps_;
  // Groups of options come in any order; callers see the sequences in theirs.
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
  blocks_->ForgetAll();
  version_ = version;
  return absl::OkStatus();
}

EngineStats Engine::stats() const {
  return {scheduler_->stats(), steps_, sampled_tokens_};
}

}  // namespace temper
