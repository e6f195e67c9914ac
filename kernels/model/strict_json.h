// JSON from files that we do not trust: one value, no duplicate keys, nesting
// bounded. Thread-safe.

#ifndef KERNELS_MODEL_STRICT_JSON_H_
#define KERNELS_MODEL_STRICT_JSON_H_

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace temper {

constexpr int kJsonDepthMax = 16;

// InvalidArgument names `what` (a path) and the fault: a byte-order mark before
// it, not JSON, a key that
// occurs twice in one object, nesting beyond kJsonDepthMax.
absl::StatusOr<nlohmann::json> ParseStrictJson(const char* text, size_t size,
                                               const std::string& what);
inline absl::StatusOr<nlohmann::json> ParseStrictJson(const std::string& text,
                                                      const std::string& what) {
  return ParseStrictJson(text.data(), text.size(), what);
}

}  // namespace temper

#endif  // KERNELS_MODEL_STRICT_JSON_H_
