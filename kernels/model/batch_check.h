// What Transformer::Forward demands of a TokenBatch, checked on the host before
// anything runs.

#ifndef KERNELS_MODEL_BATCH_CHECK_H_
#define KERNELS_MODEL_BATCH_CHECK_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/model/config.h"
#include "kernels/model/transformer.h"

namespace temper {

// `rows` is how many key rows there are: the cache's slots, or the batch's own
// tokens in training, where slot must be 0 .. N - 1. InvalidArgument names the
// member, the token and the limit. `last` is scratch, kept by whoever checks
// every step.
absl::Status CheckBatch(const ModelConfig& config, const TokenBatch& batch,
                        int64_t tokens_max, int64_t rows, bool training,
                        std::vector<int32_t>* last);

// 1 + the largest position; 0 for an empty batch.
int64_t KeysMax(const TokenBatch& batch);

}  // namespace temper

#endif  // KERNELS_MODEL_BATCH_CHECK_H_
