#include "kernels/tensor/numerics.h"

#include "absl/strings/str_cat.h"

namespace temper {

absl::StatusOr<Numerics> NumericsNamed(const std::string& name) {
  if (name == "fp32") return kFp32;
  if (name == "bf16") return kBf16;
  // A name of its own, and not one unknown name among others: files and
  // habits from elsewhere will say it.
  if (name == "fp8") {
    return absl::UnimplementedError(
        "numerics fp8 is not in this version; set numerics to fp32 or bf16");
  }
  return absl::InvalidArgumentError(
      absl::StrCat("numerics \"", name, "\" is none of fp32 | bf16"));
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
