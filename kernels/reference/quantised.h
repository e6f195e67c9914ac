// FP8 by plain loops, for tests: the definition (DESIGN.md section 6). What
// kernels/tensor/fp8.h does with bits stands here as arithmetic. Test only; see
// kernels/reference/arithmetic.h.

#ifndef KERNELS_REFERENCE_QUANTISED_H_
#define KERNELS_REFERENCE_QUANTISED_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "kernels/reference/arithmetic.h"

namespace temper::reference {

// The nearest number that e4m3 holds, a tie to the even one: a multiple of the
// last place's value, which below 2^-6 is 2^-9; at most 448.
inline float RoundToE4M3(float x) {
  if (std::isnan(x)) return x;
  if (std::fabs(x) >= 448) return std::copysign(448.0f, x);
  if (std::fabs(double{x}) < 0x1p-126) return std::copysign(0.0f, x);
  const double place = std::ldexp(1.0, std::max(std::ilogb(double{x}) - 3, -9));
  return static_cast<float>(std::nearbyint(x / place) * place);
}

// The least power of two, of 2^-22 and above, that takes `largest` to 448 at
// most. None for what would round to more than fp32 holds.
inline float ScaleOfBlock(double largest) {
  if (!(largest < 0x1.fp127)) return std::numeric_limits<float>::quiet_NaN();
  double scale = 0x1p-22;
  while (448 * scale < largest) scale *= 2;
  return static_cast<float>(scale);
}

// A matrix [rows, columns] in e4m3: every block of row_block x 128 of it,
// counted from the first row and column and cut off at the last, has a scale.
struct Quantised {
  static constexpr size_t kBlock = 128;

  size_t rows = 0, columns = 0, row_block = 1;
  std::vector<float> codes;   // as numbers, not yet scaled
  std::vector<float> scales;  // [ceil(rows / row_block), ceil(columns / 128)]

  size_t blocks() const { return (columns + kBlock - 1) / kBlock; }
  float scale(size_t i, size_t k) const {
    return scales[i / row_block * blocks() + k / kBlock];
  }
  float code(size_t i, size_t k) const {
    return k < columns ? codes[i * columns + k] : 0.0f;
  }
  std::vector<float> Dequantised() const {
    std::vector<float> x;
    for (size_t i = 0; i < codes.size(); ++i) {
      x.push_back(codes[i] * scale(i / columns, i % columns));
    }
    return x;
  }
};

// A block that has no scale has codes of 0.
inline Quantised Quantise(const std::vector<float>& x, size_t columns,
                          size_t row_block) {
  Quantised q = {x.size() / columns, columns, row_block, {}, {}};
  const size_t row_blocks = (q.rows + row_block - 1) / row_block;
  std::vector<double> largest(row_blocks * q.blocks(), 0.0);
  for (size_t i = 0; i < x.size(); ++i) {
    double& so_far = largest[i / columns / row_block * q.blocks() +
                             i % columns / Quantised::kBlock];
    const double magnitude = std::fabs(double{x[i]});
    if (!(magnitude <= so_far) && !std::isnan(so_far)) so_far = magnitude;
  }
  for (const double magnitude : largest) {
    q.scales.push_back(ScaleOfBlock(magnitude));
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const float scale = q.scale(i / columns, i % columns);
    q.codes.push_back(std::isnan(scale) ? 0.0f : RoundToE4M3(x[i] / scale));
  }
  return q;
}

// Of activations, each row by itself.
inline Quantised QuantiseRows(const std::vector<float>& x, size_t columns) {
  return Quantise(x, columns, 1);
}

// Of a weight [out, in].
inline Quantised QuantiseWeight(const std::vector<float>& w, size_t in) {
  return Quantise(w, in, Quantised::kBlock);
}

// The sum over one block of 128, padded with zeros, of the codes of row i of x
// and row j of w, from zero: four blocks of bf16.
inline float BlockProduct(const Quantised& x, size_t i, const Quantised& w,
                          size_t j, size_t first) {
  return ProductOnto(
             Narrow(0), Quantised::kBlock,
             [&](size_t k) { return x.code(i, first + k); },
             [&](size_t k) { return w.code(j, first + k); })
      .value;
}

// y[n] = W x[n]: x [rows, in], W [out, in].
inline std::vector<float> Linear(const Quantised& x, const Quantised& w) {
  std::vector<float> y;
  for (size_t n = 0; n < x.rows; ++n) {
    for (size_t j = 0; j < w.rows; ++j) {
      float total = 0;
      for (size_t first = 0; first < x.columns; first += Quantised::kBlock) {
        total = MulAdd(BlockProduct(x, n, w, j, first),
                       x.scale(n, first) * w.scale(j, first), total);
      }
      y.push_back(total);
    }
  }
  return y;
}

// Rows of `dims`, a power of two, times Sylvester's matrix, entry (i, j) of
// which is -1 to the number of ones in i & j, and then times dims^-0.5; by
// butterflies. It is its own inverse, and its own backward.
template <typename T>
std::vector<T> Hadamard(std::vector<T> x, size_t dims) {
  const T factor =
      T(static_cast<float>(1 / std::sqrt(static_cast<double>(dims))));
  for (size_t row = 0; row < x.size(); row += dims) {
    for (size_t stride = 1; stride < dims; stride *= 2) {
      for (size_t j = 0; j < dims; ++j) {
        if ((j & stride) != 0) continue;
        const T a = x[row + j], b = x[row + j + stride];
        x[row + j] = a + b;
        x[row + j + stride] = a - b;
      }
    }
    for (size_t j = 0; j < dims; ++j) x[row + j] *= factor;
  }
  return x;
}

// Scores of the indexer: with q [heads, dims] of one query and keys [count,
// dims], both quantised by rows of at most 128, I = k_scale times the chain,
// over ascending heads, of fma(w q_scale, max(dot, 0), sum), the dot unscaled.
inline std::vector<float> IndexScores(const Quantised& q,
                                      const std::vector<float>& w,
                                      const Quantised& keys) {
  std::vector<float> scores;
  for (size_t s = 0; s < keys.rows; ++s) {
    float sum = 0;
    for (size_t h = 0; h < q.rows; ++h) {
      const float dot = BlockProduct(q, h, keys, s, 0);
      sum = MulAdd(w[h] * q.scale(h, 0), dot > 0 ? dot : 0.0f, sum);
    }
    scores.push_back(keys.scale(s, 0) * sum);
  }
  return scores;
}

}  // namespace temper::reference

#endif  // KERNELS_REFERENCE_QUANTISED_H_
