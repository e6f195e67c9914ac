// From final hidden states to sampled tokens, with what training must know of
// each: its log-probability after temperature and truncation, and the set that
// truncation kept; or, where the set is dropped, its log-probability after
// temperature alone. The head runs on the rows that sample, no others, all of a
// step's rows whatever their options, and what they come to is one copy.
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

namespace temper {

// InvalidArgument, naming the field, its value and its range, if `options` are
// not 0 < temperature, 0 <= top_k, 0 <= top_p <= 1, 0 <= min_p <= 1,
// 1 <= kept_max <= kKeptMax, all finite.
absl::Status ValidateSampleOptions(const SampleOptions& options);

// What rows came to, in their order; valid until the next Sample.
struct SampledTokens {
  const int32_t* ids = nullptr;
  const float* logprobs = nullptr;
  const int32_t* kept_counts = nullptr;  // 0: the whole vocabulary
  const int32_t* kept_ids = nullptr;     // of row i from i * kKeptMax on

  const int32_t* kept(int64_t row) const { return kept_ids + row * kKeptMax; }
};

class Sampler {
 public:
  // `rows_max` rows of a Sample at most, of which `logit_rows_max` have logits
  // at once. `backend` must outlive the object.
  static absl::StatusOr<std::unique_ptr<Sampler>> Create(
      Backend* backend, const ModelConfig& config, int64_t logit_rows_max,
      int64_t rows_max);

  // Bytes that Create asks for: the printed plan uses it.
  static int64_t BytesFor(const ModelConfig& config, int64_t logit_rows_max,
                          int64_t rows_max);

  // Samples row i from row hidden_rows[i] of `hidden` (f32 [N, D]). `rows` are
  // valid, and at least one. One blocking read, whose error is the device's.
  // Internal if a log-probability is not finite (weights or hidden states are
  // broken).
  absl::Status Sample(const Tensor& hidden, const Weight& lm_head,
                      const std::vector<int32_t>& hidden_rows,
                      const std::vector<SampleRow>& rows,
                      SampledTokens* tokens);

 private:
  // Of the logits of a few rows at a time.
  struct Logits {
    Tensor gathered;  // [logit_rows_max, D]
    Tensor logits;    // [logit_rows_max, V]
  };
  // What goes up for n rows, and what comes down, each dense: one copy.
  struct Up {
    Tensor all;          // i32 [n * (kSampleRowInts + 1)]
    Tensor rows;         // i32 [n, kSampleRowInts]
    Tensor hidden_rows;  // i32 [n]
  };
  struct Down {
    Tensor ids;          // i32 [n]
    Tensor logprobs;     // [n]
    Tensor kept_counts;  // i32 [n]
    Tensor kept_ids;     // i32 [n, kKeptMax]
  };

  Sampler() = default;
  static Logits LayOutLogits(const ModelConfig& config, int64_t rows,
                             Arena* arena);
  static Up LayOutUp(int64_t rows, Arena* arena);
  static Down LayOutDown(int64_t rows, Arena* arena);
  static int64_t DownBytes(int64_t rows);
  // Writes host_up_, as LayOutUp has it, for `count` rows.
  void FillUp(const std::vector<int32_t>& hidden_rows,
              const std::vector<SampleRow>& rows, int64_t count);

  Backend* backend_ = nullptr;
  int64_t logit_rows_max_ = 0;
  int64_t rows_max_ = 0;
  std::unique_ptr<Buffer> logits_buffer_, up_buffer_, down_buffer_, words_;
  std::unique_ptr<HostBuffer> host_;
  Logits logits_;
  std::vector<int32_t> host_up_;
};

}  // namespace temper

#endif  // ROLLOUT_SAMPLER_H_
