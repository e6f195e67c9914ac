#include "rollout/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
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

Sampler::Logits Sampler::LayOutLogits(const ModelConfig& config, int64_t rows,
                                      Arena* arena) {
  return {.gathered = arena->F32({rows, config.hidden_size}),
          .logits = arena->F32({rows, config.vocab_size})};
}

Sampler::Up Sampler::LayOutUp(int64_t rows, Arena* arena) {
  Up up;
  up.all = arena->I32({rows * (kSampleRowInts + 1)});
  if (up.all.empty()) return up;
  up.rows =
      up.all.Slice(0, 0, rows * kSampleRowInts).Reshape({rows, kSampleRowInts});
  up.hidden_rows =
      up.all.Slice(0, rows * kSampleRowInts, rows * (kSampleRowInts + 1));
  return up;
}

Sampler::Down Sampler::LayOutDown(int64_t rows, Arena* arena) {
  return {.ids = arena->I32({rows}),
          .logprobs = arena->F32({rows}),
          .kept_counts = arena->I32({rows}),
          .kept_ids = arena->I32({rows, kKeptMax})};
}

int64_t Sampler::DownBytes(int64_t rows) {
  Arena counter;
  LayOutDown(rows, &counter);
  return counter.bytes();
}

int64_t Sampler::BytesFor(const ModelConfig& config, int64_t logit_rows_max,
                          int64_t rows_max) {
  Arena logits, up;
  LayOutLogits(config, logit_rows_max, &logits);
  LayOutUp(rows_max, &up);
  // The last twice: on the device and where it comes down.
  return logits.bytes() + up.bytes() + rows_max * 4 + 2 * DownBytes(rows_max);
}

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::Create(
    Backend* backend, const ModelConfig& config, int64_t logit_rows_max,
    int64_t rows_max) {
  CHECK(logit_rows_max > 0 && rows_max > 0)
      << logit_rows_max << " of " << rows_max << " rows";
  std::unique_ptr<Sampler> sampler(new Sampler());
  Sampler& s = *sampler;
  s.backend_ = backend;
  s.logit_rows_max_ = logit_rows_max;
  s.rows_max_ = rows_max;
  Arena logits, up;
  LayOutLogits(config, logit_rows_max, &logits);
  LayOutUp(rows_max, &up);
  ASSIGN_OR_RETURN(s.logits_buffer_, backend->Allocate(logits.bytes()));
  ASSIGN_OR_RETURN(s.up_buffer_, backend->Allocate(up.bytes()));
  ASSIGN_OR_RETURN(s.words_, backend->Allocate(rows_max * 4));
  ASSIGN_OR_RETURN(s.down_buffer_, backend->Allocate(DownBytes(rows_max)));
  ASSIGN_OR_RETURN(s.host_, backend->AllocateHost(DownBytes(rows_max)));
  Arena arena(s.logits_buffer_->data(), backend->device());
  s.logits_ = LayOutLogits(config, logit_rows_max, &arena);
  s.host_up_.reserve(rows_max * (kSampleRowInts + 1));
  return sampler;
}

void Sampler::FillUp(const std::vector<int32_t>& hidden_rows,
                     const std::vector<SampleRow>& rows, int64_t count) {
  host_up_.resize(count * (kSampleRowInts + 1));
  int32_t* const row_at = host_up_.data();
  int32_t* const hidden_at = row_at + count * kSampleRowInts;
  for (int64_t i = 0; i < count; ++i) {
    // What only fills the batch is the first row again.
    const size_t row = i < static_cast<int64_t>(rows.size()) ? i : 0;
    std::memcpy(row_at + i * kSampleRowInts, &rows[row], sizeof(SampleRow));
    hidden_at[i] = hidden_rows[row];
  }
}

absl::Status Sampler::Sample(const Tensor& hidden, const Weight& lm_head,
                             const std::vector<int32_t>& hidden_rows,
                             const std::vector<SampleRow>& rows,
                             SampledTokens* tokens) {
  const auto asked = static_cast<int64_t>(rows.size());
  CHECK(asked >= 1 && asked <= rows_max_ && hidden_rows.size() == rows.size())
      << asked << " rows of " << rows_max_;
  const int64_t count = std::min(backend_->BucketRows(asked), rows_max_);
  Arena up_arena(up_buffer_->data(), backend_->device());
  const Up up = LayOutUp(count, &up_arena);
  FillUp(hidden_rows, rows, count);
  RETURN_IF_ERROR(backend_->CopyFromHost(host_up_.data(), up.all));
  const Tensor words(words_->data(), DType::kI32, {count}, backend_->device());
  backend_->DrawWords(up.rows, words);

  Arena down_arena(down_buffer_->data(), backend_->device());
  const Down down = LayOutDown(count, &down_arena);
  for (int64_t begin = 0; begin < count; begin += logit_rows_max_) {
    const int64_t end = std::min(begin + logit_rows_max_, count);
    const auto part = [&](const Tensor& x) { return x.Slice(0, begin, end); };
    const Tensor gathered = logits_.gathered.Slice(0, 0, end - begin);
    const Tensor logits = logits_.logits.Slice(0, 0, end - begin);
    backend_->GatherRows(hidden, part(up.hidden_rows), gathered);
    backend_->Linear(gathered, lm_head, Use::kForward, logits);
    backend_->Sample({.logits = logits,
                      .rows = part(up.rows),
                      .words = part(words),
                      .ids = part(down.ids),
                      .logp = part(down.logprobs),
                      .kept_ids = part(down.kept_ids),
                      .kept_counts = part(down.kept_counts)});
  }
  // All of it in one copy, the gaps between the parts too.
  backend_->CopyToHost(Tensor(down_buffer_->data(), DType::kU8,
                              {down_arena.bytes()}, backend_->device()),
                       host_.get(), 0);
  RETURN_IF_ERROR(backend_->Wait(backend_->Record()));
  Arena host_arena(host_->data(), Device::kCpu);
  const Down host = LayOutDown(count, &host_arena);
  *tokens = {.ids = host.ids.as<const int32_t>(),
             .logprobs = host.logprobs.as<const float>(),
             .kept_counts = host.kept_counts.as<const int32_t>(),
             .kept_ids = host.kept_ids.as<const int32_t>()};
  for (int64_t i = 0; i < asked; ++i) {
    if (std::isfinite(tokens->logprobs[i])) continue;
    return absl::InternalError(
        absl::StrCat("a sampled token's log-probability is ",
                     tokens->logprobs[i], "; the weights are broken"));
  }
  return absl::OkStatus();
}

}  // namespace temper
