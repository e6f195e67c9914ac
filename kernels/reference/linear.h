// Products as plain loops over any scalar type, for tests: the definition.
// Equations: kernels/ops/backend.h.

#ifndef KERNELS_REFERENCE_LINEAR_H_
#define KERNELS_REFERENCE_LINEAR_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/reference/arithmetic.h"

namespace temper::reference {

// y[n] = W x[n], x [rows, in], W [out, in]; transposed: y[n] = W^T x[n].
template <typename T>
std::vector<T> Linear(const std::vector<T>& x, const std::vector<T>& w,
                      size_t out, size_t in, bool transposed) {
  const size_t from = transposed ? out : in, to = transposed ? in : out;
  const size_t rows = x.size() / from;
  std::vector<T> y(rows * to, T(0));
  for (size_t n = 0; n < rows; ++n) {
    for (size_t j = 0; j < to; ++j) {
      y[n * to + j] = transposed
                          ? ChainOf(&x[n * from], 1, &w[j], in, from)
                          : ChainOf(&x[n * from], 1, &w[j * in], 1, from);
    }
  }
  return y;
}

// x [rows, groups, from]; W [groups, out, in]; y [rows, groups, to].
template <typename T>
std::vector<T> HeadLinear(const std::vector<T>& x, const std::vector<T>& w,
                          size_t groups, size_t out, size_t in,
                          bool transposed) {
  const size_t from = transposed ? out : in;
  const size_t rows = x.size() / from / groups;
  std::vector<T> y;
  for (size_t n = 0; n < rows; ++n) {
    for (size_t g = 0; g < groups; ++g) {
      const size_t begin = (n * groups + g) * from;
      const std::vector<T> part =
          Linear<T>({x.begin() + begin, x.begin() + begin + from},
                    {w.begin() + g * out * in, w.begin() + (g + 1) * out * in},
                    out, in, transposed);
      y.insert(y.end(), part.begin(), part.end());
    }
  }
  return y;
}

// Rows offsets[e] .. offsets[e + 1] of x through matrix e of W [E, out, in].
template <typename T>
std::vector<T> GroupedLinear(const std::vector<T>& x,
                             const std::vector<int32_t>& offsets,
                             const std::vector<T>& w, size_t out, size_t in,
                             bool transposed) {
  const size_t from = transposed ? out : in;
  std::vector<T> y;
  for (size_t e = 0; e + 1 < offsets.size(); ++e) {
    const std::vector<T> part = Linear<T>(
        {x.begin() + offsets[e] * from, x.begin() + offsets[e + 1] * from},
        {w.begin() + e * out * in, w.begin() + (e + 1) * out * in}, out, in,
        transposed);
    y.insert(y.end(), part.begin(), part.end());
  }
  return y;
}

}  // namespace temper::reference

#endif  // KERNELS_REFERENCE_LINEAR_H_
