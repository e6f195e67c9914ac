// config.json's quantization_config: how DeepSeek says of a directory that its
// matrices are in F8_E4M3, with a scale for each square of 128. What each
// tensor is its own file says; what is checked here is only that nothing else
// is meant.
//
// Functions without state; thread-safe.

#ifndef KERNELS_MODEL_QUANTIZATION_CONFIG_H_
#define KERNELS_MODEL_QUANTIZATION_CONFIG_H_

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace temper {

inline constexpr char kQuantizationKey[] = "quantization_config";

// Of a directory whose scales are powers of two.
nlohmann::json QuantizationConfig();

// InvalidArgument names the key below it, its value and what is allowed. Null
// is none; fmt, activation_scheme and scale_fmt may be missing: those of V3
// have no scale_fmt, for their scales may be any.
absl::Status CheckQuantizationConfig(const nlohmann::json& value);

}  // namespace temper

#endif  // KERNELS_MODEL_QUANTIZATION_CONFIG_H_
