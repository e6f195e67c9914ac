// The values of a golden directory as the production code computes them: every
// tensor of the goldens that is in scope (no MTP, no FP8), under its name.

#ifndef TESTS_GOLDEN_VALUES_H_
#define TESTS_GOLDEN_VALUES_H_

#include <string>

#include "absl/status/statusor.h"
#include "kernels/ops/backend.h"
#include "tests/golden_file.h"

namespace temper {

// Reads config.json, model.safetensors, inputs.json and
// ref_overrides.safetensors of `dir`, and nothing else.
absl::StatusOr<GoldenTensors> ComputeGoldenValues(Backend* backend,
                                                  const std::string& dir);

}  // namespace temper

#endif  // TESTS_GOLDEN_VALUES_H_
