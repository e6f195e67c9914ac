// What a run computes in: one value, from its configuration, that goes to
// whatever lays memory out. Only operands of products and of attention change
// type; pointwise operations stay fp32 inside (DESIGN.md section 6, item 5).
//
// A constant; functions without state, thread-safe.

#ifndef KERNELS_TENSOR_NUMERICS_H_
#define KERNELS_TENSOR_NUMERICS_H_

#include <string>

#include "absl/status/statusor.h"
#include "kernels/tensor/dtype.h"

namespace temper {

struct Numerics {
  // Operands of products and of attention, and what is published of the
  // matrices that are multiplied by. Those in f8e4m3 have scales of powers of
  // two, a row's for 128 columns, a matrix's for squares of 128.
  DType operand = DType::kF32;
  // The same of what has no scales: W_UK and W_UV, whose matrix is published in
  // `operand`, lm_head and the embedding.
  DType unscaled = DType::kF32;
  // Rows of the caches: the latent with its rotary part, the indexer's keys.
  DType latent_cache = DType::kF32;
  DType index_cache = DType::kF32;

  // Whether the indexer's queries and keys go through a Hadamard rotation,
  // which spreads what stands out over a row that is quantised.
  bool rotates() const { return index_cache == DType::kF8E4M3; }

  bool operator==(const Numerics&) const = default;
};

inline constexpr Numerics kFp32;
inline constexpr Numerics kBf16 = {DType::kBF16, DType::kBF16, DType::kBF16,
                                   DType::kBF16};
inline constexpr Numerics kFp8 = {DType::kF8E4M3, DType::kBF16, DType::kF8E4M3,
                                  DType::kF8E4M3};

// The configuration's names: "fp32", "bf16", "fp8". InvalidArgument, naming
// them, for another.
absl::StatusOr<Numerics> NumericsNamed(const std::string& name);
std::string NameOf(const Numerics& numerics);

}  // namespace temper

#endif  // KERNELS_TENSOR_NUMERICS_H_
