// Pointwise operations and norms as plain loops over any scalar type, for
// tests: the definition. With std::complex<double> the imaginary part carries
// a derivative (complex step), so nothing here takes an absolute value.
// Equations: kernels/ops/backend.h.

#ifndef KERNELS_REFERENCE_POINTWISE_H_
#define KERNELS_REFERENCE_POINTWISE_H_

#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/reference/arithmetic.h"

namespace temper::reference {

template <typename T>
T Sigmoid(T x) {
  return T(1) / (T(1) + ExpOf(T(0) - x));
}

// x [rows, n], w [n] -> y [rows, n]
template <typename T>
std::vector<T> RmsNorm(const std::vector<T>& x, const std::vector<T>& w,
                       double eps) {
  const size_t n = w.size();
  std::vector<T> y(x.size());
  for (size_t row = 0; row < x.size(); row += n) {
    const T squares = DotOf(&x[row], &x[row], n);
    const T inverse = T(1) / std::sqrt(squares / T(n) + T(eps));
    for (size_t i = 0; i < n; ++i) y[row + i] = x[row + i] * inverse * w[i];
  }
  return y;
}

// x [rows, n], w [n], b [n] -> y [rows, n]
template <typename T>
std::vector<T> LayerNorm(const std::vector<T>& x, const std::vector<T>& w,
                         const std::vector<T>& b, double eps) {
  const size_t n = w.size();
  std::vector<T> y(x.size());
  for (size_t row = 0; row < x.size(); row += n) {
    std::vector<T> centred(x.begin() + row, x.begin() + row + n);
    const T mean = SumOf(centred) / T(n);
    for (T& value : centred) value -= mean;
    const T variance = DotOf(centred.data(), centred.data(), n) / T(n);
    const T inverse = T(1) / std::sqrt(variance + T(eps));
    for (size_t i = 0; i < n; ++i) {
      y[row + i] = MulAdd(centred[i] * inverse, w[i], b[i]);
    }
  }
  return y;
}

// x [rows, groups, width], position [rows], cos_sin [positions, width].
template <typename T>
std::vector<T> Rope(std::vector<T> x, const std::vector<int32_t>& position,
                    const std::vector<double>& cos_sin, size_t groups,
                    size_t width, bool interleaved) {
  const size_t half = width / 2;
  for (size_t n = 0; n < position.size(); ++n) {
    const double* table = cos_sin.data() + position[n] * width;
    for (size_t group = 0; group < groups; ++group) {
      T* row = x.data() + (n * groups + group) * width;
      for (size_t j = 0; j < half; ++j) {
        T& first = row[interleaved ? 2 * j : j];
        T& second = row[interleaved ? 2 * j + 1 : j + half];
        const T a = first, b = second;
        first = a * T(table[j]) - b * T(table[half + j]);
        second = a * T(table[half + j]) + b * T(table[j]);
      }
    }
  }
  return x;
}

template <typename T>
std::vector<T> SwiGlu(const std::vector<T>& gate, const std::vector<T>& up) {
  std::vector<T> h(gate.size());
  for (size_t i = 0; i < gate.size(); ++i) {
    h[i] = gate[i] * Sigmoid(gate[i]) * up[i];
  }
  return h;
}

// table [V, n], ids [rows] -> x [rows, n]
template <typename T>
std::vector<T> Embed(const std::vector<T>& table,
                     const std::vector<int32_t>& ids, size_t n) {
  std::vector<T> x;
  for (const int32_t id : ids) {
    x.insert(x.end(), table.begin() + id * n, table.begin() + (id + 1) * n);
  }
  return x;
}

}  // namespace temper::reference

#endif  // KERNELS_REFERENCE_POINTWISE_H_
