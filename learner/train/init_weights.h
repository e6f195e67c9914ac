// Seeded random initialisation: matrices are normal with deviation
// `initializer_range`, norms are one, biases zero. The values depend on the
// seed and each tensor's place in the list alone: on every machine the same.
//
// A function without state; nobody else uses the weights or their backend
// meanwhile.

#ifndef LEARNER_TRAIN_INIT_WEIGHTS_H_
#define LEARNER_TRAIN_INIT_WEIGHTS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/model/master_weights.h"

namespace temper {

// Sets every value. While it runs it holds a copy of all of them on the host.
// An error is the backend's, of a copy that failed.
absl::Status InitWeights(uint64_t seed, double initializer_range,
                         MasterWeights* weights);

}  // namespace temper

#endif  // LEARNER_TRAIN_INIT_WEIGHTS_H_
