// What tests of attention over keys of bf16 share: numbers, a tensor core's
// chains, and keys of two sequences scattered over a strip.

#ifndef KERNELS_CUDA_NARROW_KEY_FIXTURE_H_
#define KERNELS_CUDA_NARROW_KEY_FIXTURE_H_

#include <cstdint>
#include <vector>

#include "kernels/base/rng.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/simt/accumulator.h"
#include "kernels/cuda/simt/testing.h"
#include "kernels/ops/rows.h"
#include "kernels/tensor/bf16.h"

namespace temper::cuda {

using simt::GlobalArray;

inline float Draw(uint64_t seed, int64_t i) {
  const auto ordinal = static_cast<uint32_t>(i);
  return static_cast<float>(Normal({.seed = seed, .ordinal = ordinal}));
}

inline std::vector<float> Normals(uint64_t seed, int64_t count) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(Draw(seed, i));
  return values;
}

inline uint16_t Rounded(float x) { return BF16FromFloat(x).bits; }

// start + a . b, of so many pairs, 16 at a time by a tensor core.
template <typename A, typename B>
float Chain(float start, int64_t count, A a, B b) {
  for (int64_t first = 0; first < count; first += 16) {
    simt::Operand x[16], y[16];
    for (int64_t k = 0; k < 16; ++k) {
      const bool there = first + k < count;
      x[k] = simt::OperandOfBf16(there ? a(first + k) : uint16_t{0});
      y[k] = simt::OperandOfBf16(there ? b(first + k) : uint16_t{0});
    }
    start = simt::DotBf16(x, y, 16, start);
  }
  return start;
}

// Two sequences' keys, scattered over a strip in pages of four, and queries.
class KeysInPages {
 public:
  static constexpr int kPage = 4, kPages = 40, kSequences = 2;
  static constexpr int kRows = kSequences * kPages * kPage;

  KeysInPages(int64_t columns, int64_t stride,
              const std::vector<int>& positions)
      : columns_(columns),
        stride_(stride),
        keys_(static_cast<size_t>(kRows * stride)),
        blocks_(kSequences * kPages),
        sequence_(positions.size()),
        position_(positions.size()),
        fault_(1) {
    for (int i = 0; i < kSequences * kPages; ++i) {
      blocks_[i] = (i * 27 + 5) % (kSequences * kPages);
    }
    for (int64_t i = 0; i < kRows * columns; ++i) {
      keys_[static_cast<size_t>(i / columns * stride + i % columns)] =
          Rounded(Draw(3, i));
    }
    for (size_t n = 0; n < positions.size(); ++n) {
      sequence_[n] = static_cast<int32_t>(n % kSequences);
      position_[n] = positions[n];
    }
    fault_[0] = 0;
  }

  Rows<const uint16_t> Strip() {
    return {keys_.data(), kRows, columns_, stride_};
  }
  Keys Map(int64_t first = 0) {
    return {.sequence = sequence_.data() + first,
            .position = position_.data() + first,
            .blocks = {blocks_.data(), kSequences, kPages, kPages},
            .page_shift = 2,
            .rows = kRows,
            .fault = fault_.data()};
  }
  const uint16_t* Key(int64_t query, int32_t position) {
    const int32_t block = blocks_[sequence_[query] * kPages + position / kPage];
    return keys_.data() + (block * kPage + position % kPage) * stride_;
  }
  uint32_t fault() { return fault_[0]; }

 private:
  const int64_t columns_, stride_;
  GlobalArray<uint16_t> keys_;
  GlobalArray<int32_t> blocks_, sequence_, position_;
  GlobalArray<uint32_t> fault_;
};

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_NARROW_KEY_FIXTURE_H_
