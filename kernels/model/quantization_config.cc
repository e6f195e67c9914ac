#include "kernels/model/quantization_config.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

using Json = nlohmann::json;

// `key` begins with a dot, or is empty: the whole.
absl::Status Refused(const std::string& key, const Json& value,
                     const std::string& allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat(kQuantizationKey, key, " is ",
                   value.dump(-1, ' ', true, Json::error_handler_t::replace),
                   "; ", allowed));
}

}  // namespace

Json QuantizationConfig() {
  return {{"quant_method", "fp8"},
          {"fmt", "e4m3"},
          {"scale_fmt", "ue8m0"},
          {"activation_scheme", "dynamic"},
          {"weight_block_size", {kScaleBlock, kScaleBlock}}};
}

absl::Status CheckQuantizationConfig(const Json& value) {
  if (value.is_null()) return absl::OkStatus();
  if (!value.is_object()) {
    return Refused("", value, "null or an object is needed");
  }
  for (const char* key : {"quant_method", "weight_block_size"}) {
    if (value.contains(key)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("the key ", kQuantizationKey, ".", key, " is missing"));
  }
  const Json ours = QuantizationConfig();
  for (const auto& [key, given] : value.items()) {
    if (!ours.contains(key)) {
      return Refused("." + key, given, "this key is not known");
    }
    if (given != ours[key]) {
      return Refused("." + key, given,
                     absl::StrCat("only ", ours[key].dump(), " is supported"));
    }
  }
  return absl::OkStatus();
}

}  // namespace temper
