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

int64_t Sampler::BytesFor(const ModelConfig& config, int64_t rows_max) {
  return rows_max * 4 *
             (config.hidden_size + config.vocab_size + kKeptMax + 8) +
         4;
}

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::Create(
    Backend* backend, const ModelConfig& config, int64_t rows_max) {
  CHECK(rows_max > 0) << "rows_max " << rows_max;
  std::unique_ptr<Sampler> sampler(new Sampler());
  Sampler& s = *sampler;
  s.backend_ = backend;
  s.hidden_size_ = config.hidden_size;
  s.vocab_size_ = config.vocab_size;
  s.rows_max_ = rows_max;
  const int64_t row = rows_max * 4;
  ASSIGN_OR_RETURN(s.row_ids_, backend->Allocate(row));
  ASSIGN_OR_RETURN(s.gathered_, backend->Allocate(row * s.hidden_size_));
  ASSIGN_OR_RETURN(s.logits_, backend->Allocate(row * s.vocab_size_));
  ASSIGN_OR_RETURN(s.uniforms_, backend->Allocate(row));
  ASSIGN_OR_RETURN(s.ids_, backend->Allocate(row));
  ASSIGN_OR_RETURN(s.logprobs_, backend->Allocate(row));
  ASSIGN_OR_RETURN(s.kept_ids_, backend->Allocate(row * kKeptMax));
  ASSIGN_OR_RETURN(s.kept_counts_, backend->Allocate(row));
  ASSIGN_OR_RETURN(s.no_kept_, backend->Allocate(row + 4));
  ASSIGN_OR_RETURN(s.lse_, backend->Allocate(row));
  ASSIGN_OR_RETURN(s.entropy_, backend->Allocate(row));
  backend->Zero(s.View(*s.no_kept_, DType::kI32, rows_max + 1, 0));
  return sampler;
}

Tensor Sampler::View(const Buffer& buffer, DType dtype, int64_t rows,
                     int64_t columns) const {
  if (columns == 0) {
    return Tensor(buffer.data(), dtype, {rows}, backend_->device());
  }
  return Tensor(buffer.data(), dtype, {rows, columns}, backend_->device());
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
  std::vector<float> host_uniforms(count);
  for (int64_t i = 0; i < count; ++i) {
    host_rows[i] = rows[i].hidden_row;
    host_uniforms[i] =
        Uniform({rows[i].key.seed, RngPurpose::kSampleToken, rows[i].key.group,
                 rows[i].key.sample, rows[i].ordinal});
  }
  const Tensor row_ids = View(*row_ids_, DType::kI32, count, 0);
  const Tensor gathered = View(*gathered_, DType::kF32, count, hidden_size_);
  const Tensor logits = View(*logits_, DType::kF32, count, vocab_size_);
  const Tensor uniforms = View(*uniforms_, DType::kF32, count, 0);
  const Tensor ids = View(*ids_, DType::kI32, count, 0);
  const Tensor logprobs = View(*logprobs_, DType::kF32, count, 0);
  const Tensor kept = View(*kept_ids_, DType::kI32, count, options.kept_max);
  const Tensor counts = View(*kept_counts_, DType::kI32, count, 0);
  RETURN_IF_ERROR(backend_->CopyFromHost(host_rows.data(), row_ids));
  RETURN_IF_ERROR(backend_->CopyFromHost(host_uniforms.data(), uniforms));
  backend_->GatherRows(hidden, row_ids, gathered);
  backend_->Linear(gathered, lm_head, Use::kForward, logits);
  backend_->Sample({.logits = logits,
                    .uniforms = uniforms,
                    .options = options,
                    .ids = ids,
                    .logp = logprobs,
                    .kept_ids = kept,
                    .kept_counts = counts});
  if (mask == SamplingMask::kDrop) {
    // The learner's own operation, so that the bits are the same.
    backend_->LogProb(
        {.x = gathered,
         .w = &lm_head,
         .targets = ids,
         .kept_offsets = View(*no_kept_, DType::kI32, count + 1, 0),
         .kept_ids =
             Tensor(no_kept_->data(), DType::kI32, {0}, backend_->device()),
         .temperature = options.temperature,
         .logp = logprobs,
         .lse = View(*lse_, DType::kF32, count, 0),
         .entropy = View(*entropy_, DType::kF32, count, 0)});
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
