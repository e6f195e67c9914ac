// The packed little-endian arrays of proto/trajectory.proto, which run.db keeps
// as blobs too: how they are written, counted and read, in one place.
//
// Pure functions; thread-safe.

#ifndef PROTO_WIRE_PACKED_ARRAY_H_
#define PROTO_WIRE_PACKED_ARRAY_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace temper {

static_assert(std::endian::native == std::endian::little,
              "packed arrays are this machine's own bytes");

template <typename T>
std::string PackArray(const T* values, size_t count) {
  static_assert(std::is_arithmetic_v<T>);
  return std::string(reinterpret_cast<const char*>(values), count * sizeof(T));
}
template <typename T>
std::string PackArray(const std::vector<T>& values) {
  return PackArray(values.data(), values.size());
}

// Whole elements that `bytes` holds.
template <typename T>
size_t PackedCount(const std::string& bytes) {
  return bytes.size() / sizeof(T);
}

// All whole elements of `bytes`, which we wrote ourselves.
template <typename T>
std::vector<T> UnpackArray(const std::string& bytes) {
  static_assert(std::is_arithmetic_v<T>);
  std::vector<T> values(PackedCount<T>(bytes));
  if (!values.empty()) {
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  }
  return values;
}

// `bytes`, which another process sent, as exactly `count` elements.
// InvalidArgument, naming `what` and both sizes, if it holds another number;
// `values` is unchanged then.
template <typename T>
absl::Status UnpackArray(const char* what, const std::string& bytes,
                         size_t count, std::vector<T>* values) {
  if (bytes.size() != count * sizeof(T)) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " has ", bytes.size(), " bytes, not ",
                     count * sizeof(T), " (", count, " elements)"));
  }
  *values = UnpackArray<T>(bytes);
  return absl::OkStatus();
}

// Bit t % 8 of byte t / 8 is set where flags[t] is not 0.
inline std::string PackBits(const std::vector<uint8_t>& flags, size_t count) {
  std::string bits((count + 7) / 8, '\0');
  for (size_t t = 0; t < count; ++t) {
    if (flags[t] != 0) bits[t / 8] |= static_cast<char>(1 << (t % 8));
  }
  return bits;
}

// False beyond the end.
inline bool PackedBit(const std::string& bits, size_t t) {
  return t / 8 < bits.size() &&
         (static_cast<unsigned char>(bits[t / 8]) >> (t % 8) & 1) != 0;
}

}  // namespace temper

#endif  // PROTO_WIRE_PACKED_ARRAY_H_
