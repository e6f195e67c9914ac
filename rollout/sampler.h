// From final hidden states to sampled tokens, with what training must know of
// each: its log-probability after temperature and truncation, and the set that
// truncation kept; or, where the mask is dropped, its log-probability after
// temperature alone. The head runs on the rows that sample, no others.
//
// A token is a function of its logits and of 32 random bits that are named by
// (seed, group, sample, ordinal), so it does not depend on what else is sampled
// at the same time. Not thread-safe.

#ifndef ROLLOUT_SAMPLER_H_
#define ROLLOUT_SAMPLER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/arena.h"
#include "kernels/model/config.h"
#include "kernels/ops/backend.h"
#include "rollout/sequence.h"

namespace temper {

// InvalidArgument, naming the field, its value and its range, if `options` are
// not 0 < temperature, 0 <= top_k, 0 <= top_p <= 1, 0 <= min_p <= 1,
// 1 <= kept_max <= kKeptMax, all finite.
absl::Status ValidateSampleOptions(const SampleOptions& options);

// A row of the hidden states to sample from, and the name of its random bits.
struct SampleRow {
  int32_t hidden_row = 0;
  SequenceKey key;
  uint32_t ordinal = 0;  // of the sampled token in its episode
};

struct SampledToken {
  int32_t id = 0;
  float logprob = 0;
  std::vector<int32_t> kept;  // ascending; empty: the whole vocabulary
};

class Sampler {
 public:
  // Lays out logits for `rows_max` rows; more are sampled in several goes.
  // `backend` must outlive the object.
  static absl::StatusOr<std::unique_ptr<Sampler>> Create(
      Backend* backend, const ModelConfig& config, int64_t rows_max);

  // Bytes that Create asks for: the printed plan uses it.
  static int64_t BytesFor(const ModelConfig& config, int64_t rows_max);

  // Appends a token to *tokens for each of `rows`. `options` are valid; `mask`
  // says what is recorded and does not change which token is sampled. Internal
  // if a log-probability is not finite (weights or hidden states are broken);
  // what is in *tokens is then meaningless.
  absl::Status Sample(const Tensor& hidden,  // f32 [N, D]
                      const Weight& lm_head, const SampleOptions& options,
                      SamplingMask mask, const std::vector<SampleRow>& rows,
                      std::vector<SampledToken>* tokens);

 private:
  Sampler() = default;

  absl::Status SampleSome(const Tensor& hidden, const Weight& lm_head,
                          const SampleOptions& options, SamplingMask mask,
                          const SampleRow* rows, int64_t count,
                          std::vector<SampledToken>* tokens);

  // Of rows_max rows.
  struct Rows {
    Tensor row_ids;      // i32 [rows_max]
    Tensor gathered;     // [rows_max, D]
    Tensor logits;       // [rows_max, V]
    Tensor words;        // i32 [rows_max]
    Tensor ids;          // i32 [rows_max]
    Tensor logprobs;     // [rows_max]
    Tensor kept_ids;     // i32 [rows_max, kKeptMax]
    Tensor kept_counts;  // i32 [rows_max]
    // Of log-probabilities over the whole vocabulary.
    Tensor no_kept;  // i32 [rows_max + 1], zeros
    Tensor lse;      // [rows_max]
    Tensor entropy;  // [rows_max]
  };
  static Rows LayOut(const ModelConfig& config, int64_t rows_max, Arena* arena);

  Backend* backend_ = nullptr;
  int64_t rows_max_ = 0;
  std::unique_ptr<Buffer> buffer_;
  Rows rows_;
};

}  // namespace temper

#endif  // ROLLOUT_SAMPLER_H_
