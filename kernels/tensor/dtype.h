// Element types, their sizes and names. bf16 and fp8 are storage; arithmetic on
// them is a backend's.

#ifndef KERNELS_TENSOR_DTYPE_H_
#define KERNELS_TENSOR_DTYPE_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>

namespace temper {

enum class DType : uint8_t {
  kF32,
  kF64,
  kBF16,
  kF8E4M3,
  kI64,
  kI32,
  kU16,
  kU8
};

// A bfloat16's bits. Conversions: kernels/tensor/bf16.h.
struct BF16 {
  uint16_t bits;
};

// An e4m3's bits. Conversions: kernels/tensor/fp8.h.
struct F8E4M3 {
  uint8_t bits;
};

constexpr size_t DTypeBytes(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
    case DType::kU16:
      return 2;
    case DType::kF8E4M3:
    case DType::kU8:
      return 1;
  }
  return 0;
}

constexpr const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF64:
      return "f64";
    case DType::kBF16:
      return "bf16";
    case DType::kF8E4M3:
      return "f8e4m3";
    case DType::kI64:
      return "i64";
    case DType::kI32:
      return "i32";
    case DType::kU8:
      return "u8";
    case DType::kU16:
      return "u16";
  }
  return "?";
}

// A type's name in safetensors files and on the wire: "F32", "BF16"; "" for
// kU16, which is in neither.
constexpr const char* FileTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF64:
      return "F64";
    case DType::kBF16:
      return "BF16";
    case DType::kF8E4M3:
      return "F8_E4M3";
    case DType::kI64:
      return "I64";
    case DType::kI32:
      return "I32";
    case DType::kU8:
      return "U8";
    case DType::kU16:
      return "";
  }
  return "";
}

// Bytes of one element of the type of that name; 0 for a name of none.
constexpr size_t FileTypeBytes(std::string_view name) {
  if (name.empty()) return 0;
  for (const DType dtype :
       {DType::kF32, DType::kF64, DType::kBF16, DType::kF8E4M3, DType::kI64,
        DType::kI32, DType::kU8}) {
    if (name == FileTypeName(dtype)) return DTypeBytes(dtype);
  }
  return 0;
}

template <typename T>
constexpr DType DTypeOf() {
  using U = std::remove_const_t<T>;
  if constexpr (std::is_same_v<U, float>) {
    return DType::kF32;
  } else if constexpr (std::is_same_v<U, double>) {
    return DType::kF64;
  } else if constexpr (std::is_same_v<U, BF16>) {
    return DType::kBF16;
  } else if constexpr (std::is_same_v<U, F8E4M3>) {
    return DType::kF8E4M3;
  } else if constexpr (std::is_same_v<U, int64_t>) {
    return DType::kI64;
  } else if constexpr (std::is_same_v<U, int32_t>) {
    return DType::kI32;
  } else if constexpr (std::is_same_v<U, uint16_t>) {
    return DType::kU16;
  } else {
    static_assert(std::is_same_v<U, uint8_t>);
    return DType::kU8;
  }
}

}  // namespace temper

#endif  // KERNELS_TENSOR_DTYPE_H_
