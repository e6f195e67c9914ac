// How much arithmetic a model's steps are: matrix products and attention, two
// FLOP to a multiplication with its addition. Norms, gates, the softmax and the
// choice of keys are left out, as is customary: a fraction of peak made with
// these counts is what the products leave of the time.
//
// Functions without state; thread-safe.

#ifndef TOOLS_BENCH_MODEL_FLOPS_H_
#define TOOLS_BENCH_MODEL_FLOPS_H_

#include <cstdint>

#include "kernels/model/config.h"

namespace temper {

// The forward of the token at `position`, head included: every product with a
// weight it meets, the indexer's scores of the keys it sees, and attention over
// those that are selected.
double ForwardFlops(const ModelConfig& config, int64_t position);

// The backward of the same token: each product is two (by the input and by the
// weight); attention makes its scores again and goes back through both of its
// products. Indexer parameters have none: the model's loss does not reach them.
double BackwardFlops(const ModelConfig& config, int64_t position);

}  // namespace temper

#endif  // TOOLS_BENCH_MODEL_FLOPS_H_
