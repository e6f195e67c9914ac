#include "rollout/sampler.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/rng.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

absl::Status CheckRange(const char* name, double value, double low,
                        double high) {
  if (std::isfinite(value) && value >= low && value <= high) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      name, " is ", value, "; it must be in [", low, ", ", high, "]"));
}

}  // namespace

absl::Status ValidateSampleOptions(const SampleOptions& options) {
  RETURN_IF_ERROR(CheckRange("temperature", options.temperature, 1e-3, 1e3));
  RETURN_IF_ERROR(CheckRange("top_k", options.top_k, 0, 1 << 30));
  RETURN_IF_ERROR(CheckRange("top_p", options.top_p, 0, 1));
  RETURN_IF_ERROR(CheckRange("min_p", options.min_p, 0, 1));
  return CheckRange("kept_max", options.kept_max, 1, kKeptMax);
}

Sampler::Rows Sampler::LayOut(const ModelConfig& config, int64_t rows_max,
                              Arena* arena) {
  return {.row_ids = arena->I32({rows_max}),
          .gathered = arena->F32({rows_max, config.hidden_size}),
          .logits = arena->F32({rows_max, config.vocab_size}),
          .words = arena->I32({rows_max}),
          .ids = arena->I32({rows_max}),
          .logprobs = arena->F32({rows_max}),
          .kept_ids = arena->I32({rows_max, kKeptMax}),
          .kept_counts = arena->I32({rows_max}),
          .no_kept = arena->I32({rows_max + 1}),
          .lse = arena->F32({rows_max}),
          .entropy = arena->F32({rows_max})};
}

int64_t Sampler::BytesFor(const ModelConfig& config, int64_t rows_max) {
  Arena counter;
  LayOut(config, rows_max, &counter);
  return counter.bytes();
}

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::Create(
    Backend* backend, const ModelConfig& config, int64_t rows_max) {
  CHECK(rows_max > 0) << "rows_max " << rows_max;
  std::unique_ptr<Sampler> sampler(new Sampler());
  Sampler& s = *sampler;
  s.backend_ = backend;
  s.rows_max_ = rows_max;
  ASSIGN_OR_RETURN(s.buffer_, backend->Allocate(BytesFor(config, rows_max)));
  Arena arena(s.buffer_->data(), backend->device());
  s.rows_ = LayOut(config, rows_max, &arena);
  backend->Zero(s.rows_.no_kept);
  return sampler;
}

absl::Status Sampler::Sample(const Tensor& hidden, const Weight& lm_head,
                             const SampleOptions& options, SamplingMask mask,
                             const std::vector<SampleRow>& rows,
                             std::vector<SampledToken>* tokens) {
  const int64_t size = static_cast<int64_t>(rows.size());
  for (int64_t begin = 0; begin < size; begin += rows_max_) {
    RETURN_IF_ERROR(SampleSome(hidden, lm_head, options, mask, &rows[begin],
                               std::min(rows_max_, size - begin), tokens));
  }
  return absl::OkStatus();
}

absl::Status Sampler::SampleSome(const Tensor& hidden, const Weight& lm_head,
                                 const SampleOptions& options,
                                 SamplingMask mask, const SampleRow* rows,
                                 int64_t count,
                                 std::vector<SampledToken>* tokens) {
  std::vector<int32_t> host_rows(count);
  std::vector<int32_t> host_words(count);
  for (int64_t i = 0; i < count; ++i) {
    host_rows[i] = rows[i].hidden_row;
    host_words[i] = static_cast<int32_t>(RandomWords(
        {rows[i].key.seed, RngPurpose::kSampleToken, rows[i].key.group,
         rows[i].key.sample, rows[i].ordinal})[0]);
  }
  const auto some = [count](const Tensor& x) { return x.Slice(0, 0, count); };
  const Tensor row_ids = some(rows_.row_ids);
  const Tensor gathered = some(rows_.gathered);
  const Tensor logits = some(rows_.logits);
  const Tensor words = some(rows_.words);
  const Tensor ids = some(rows_.ids);
  const Tensor logprobs = some(rows_.logprobs);
  const Tensor kept = some(rows_.kept_ids).Slice(1, 0, options.kept_max);
  const Tensor counts = some(rows_.kept_counts);
  RETURN_IF_ERROR(backend_->CopyFromHost(host_rows.data(), row_ids));
  RETURN_IF_ERROR(backend_->CopyFromHost(host_words.data(), words));
  backend_->GatherRows(hidden, row_ids, gathered);
  backend_->Linear(gathered, lm_head, Use::kForward, logits);
  backend_->Sample({.logits = logits,
                    .words = words,
                    .options = options,
                    .ids = ids,
                    .logp = logprobs,
                    .kept_ids = kept,
                    .kept_counts = counts});
  if (mask == SamplingMask::kDrop) {
    // The learner's own operation, so that the bits are the same.
    backend_->LogProb({.x = gathered,
                       .w = &lm_head,
                       .targets = ids,
                       .kept_offsets = rows_.no_kept.Slice(0, 0, count + 1),
                       .kept_ids = rows_.no_kept.Slice(0, 0, 0),
                       .temperature = options.temperature,
                       .logp = logprobs,
                       .lse = some(rows_.lse),
                       .entropy = some(rows_.entropy)});
    backend_->Zero(counts);
  }

  std::vector<int32_t> host_ids(count);
  std::vector<float> host_logprobs(count);
  std::vector<int32_t> host_kept(count * options.kept_max);
  std::vector<int32_t> host_counts(count);
  RETURN_IF_ERROR(backend_->CopyToHost(ids, host_ids.data()));
  RETURN_IF_ERROR(backend_->CopyToHost(logprobs, host_logprobs.data()));
  RETURN_IF_ERROR(backend_->CopyToHost(kept, host_kept.data()));
  RETURN_IF_ERROR(backend_->CopyToHost(counts, host_counts.data()));
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(host_logprobs[i])) {
      return absl::InternalError(
          absl::StrCat("a sampled token's log-probability is ",
                       host_logprobs[i], "; the weights are broken"));
    }
    const int32_t* const begin = &host_kept[i * options.kept_max];
    tokens->push_back({host_ids[i], host_logprobs[i],
                       std::vector<int32_t>(begin, begin + host_counts[i])});
  }
  return absl::OkStatus();
}

}  // namespace temper
