// The inference engine: continuous batching over the paged latent cache. It
// turns token ids into sampled tokens and keeps, for every token, the record
// that training needs (rollout/sequence.h).
//
// Between turns a sequence stays resident. It may be preempted at any time (its
// pages taken, later prefilled again); a token's routes are fixed by its first
// forward and replayed by every later one, so neither that nor what else runs
// changes one bit of its tokens and log-probabilities.
//
// One Step is one forward over prefill chunks and decoding rows together. The
// last sampled token of a turn is not fed until the sequence is extended: a
// record of T tokens has routes for T - 1 of them.
//
// Not thread-safe; one thread drives it and its backend.

#ifndef ROLLOUT_ENGINE_H_
#define ROLLOUT_ENGINE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/kv_cache.h"
#include "kernels/model/published_weights.h"
#include "kernels/model/transformer.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/numerics.h"
#include "rollout/block_manager.h"
#include "rollout/sampler.h"
#include "rollout/scheduler.h"
#include "rollout/sequence.h"
#include "rollout/sequence_engine.h"

namespace temper {

struct EngineOptions {
  int32_t pages = 256;             // of the latent cache, 64 tokens each
  int64_t batch_tokens_max = 512;  // tokens of one forward
  int64_t sequences_max = 256;     // open at once
  int64_t sample_rows_max = 64;    // logits held at once
};

struct EngineStats {
  SchedulerStats scheduler;
  int64_t steps = 0;
  int64_t sampled_tokens = 0;
};

class Engine final : public SequenceEngine {
 public:
  // Samples with `weights`, which are called `version`; both pointers must
  // outlive the engine, which from now on alone changes the weights.
  // InvalidArgument names an option out of range.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      Backend* backend, PublishedWeights* weights, uint64_t version,
      const EngineOptions& options);

  // Bytes that Create asks for: the printed plan uses it.
  static int64_t BytesFor(const ModelConfig& config, const Numerics& numerics,
                          const EngineOptions& options);

  // See SequenceEngine; at most sequences_max sequences, each of no more
  // tokens than the model has positions, the cache has room for, and a learner
  // takes (kEpisodeTokensMax).
  absl::StatusOr<int64_t> Open(const SequenceOptions& options) override;
  absl::Status Extend(int64_t id, const std::vector<int32_t>& tokens,
                      int64_t sample_max) override;
  absl::Status Stop(int64_t id) override;
  void Close(int64_t id) override;
  absl::StatusOr<std::vector<StoppedSequence>> Step() override;
  const SequenceRecord& record(int64_t id) const override;
  bool has_running() const override { return running_ > 0; }
  const ModelConfig& config() const override { return weights_->config(); }

  // From the next Step on, samples with `bytes` (PublishedWeights::SetBytes)
  // called `version`. Every sequence is preempted and every cached prefix
  // forgotten: no token is sampled from a mix. InvalidArgument, nothing
  // changed, if the version is not above the present one or the size differs.
  absl::Status SetWeights(uint64_t version,
                          const std::vector<std::byte>& bytes);

  uint64_t version() const { return version_; }
  int64_t open_sequences() const {
    return static_cast<int64_t>(sequences_.size());
  }
  EngineStats stats() const;

  // CHECKs the bookkeeping of pages. O(pages).
  void CheckIntegrity() const { scheduler_->CheckIntegrity(); }

 private:
  Engine() = default;

  Sequence* Find(int64_t id) const;
  // batch_ of the chunks, padded to a shape of the backend's.
  void MakeBatch(const std::vector<Chunk>& chunks);
  void NoteRoutes(const std::vector<Chunk>& chunks);
  // Completes the routes of sequences, which hold all their pages still.
  absl::Status ReadRoutes(const std::vector<Sequence*>& sequences);
  absl::Status SampleChunks(const std::vector<Chunk>& chunks,
                            const Tensor& hidden,
                            std::vector<StoppedSequence>* stopped);
  // Token `row` of them; whether the sequence's turn ends with it, and why.
  bool Append(const SampledTokens& tokens, int64_t row, Sequence* sequence,
              StopReason* reason);

  Backend* backend_ = nullptr;
  PublishedWeights* weights_ = nullptr;
  uint64_t version_ = 0;
  EngineOptions options_;
  int64_t capacity_tokens_ = 0;   // that one sequence can have
  int64_t routes_per_token_ = 0;  // moe_layers * A
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Sampler> sampler_;
  std::unique_ptr<BlockManager> blocks_;
  std::unique_ptr<Scheduler> scheduler_;
  // Of the step; they keep their memory.
  TokenBatch batch_;
  std::vector<int32_t> hidden_rows_;
  std::vector<SampleRow> sample_rows_;
  absl::Status preempt_status_;  // of reading what preempted ones had
  std::map<int64_t, std::unique_ptr<Sequence>> sequences_;
  int64_t next_id_ = 1;
  int64_t running_ = 0;
  int64_t steps_ = 0;
  int64_t sampled_tokens_ = 0;
};

}  // namespace temper

#endif  // ROLLOUT_ENGINE_H_
