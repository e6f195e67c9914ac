#include "kernels/tensor/numerics.h"

#include "absl/strings/str_cat.h"

namespace temper {

absl::StatusOr<Numerics> NumericsNamed(const std::string& name) {
  if (name == "fp32") return kFp32;
  if (name == "bf16") return kBf16;
  if (name == "fp8") return kFp8;
  return absl::InvalidArgumentError(
      absl::StrCat("numerics \"", name, "\" is none of fp32 | bf16 | fp8"));
}

std::string NameOf(const Numerics& numerics) {
  switch (numerics.operand) {
    case DType::kF8E4M3:
      return "fp8";
    case DType::kBF16:
      return "bf16";
    default:
      return "fp32";
  }
}

}  // namespace temper
