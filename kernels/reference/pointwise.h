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

namespace temper::reference {

template <typename T>
T Sigmoid(T x) {
  return T(1) / (T(1) + std::exp(-x));
}

// x [rows, n], w [n] -> y [rows, n]
template <typename T>
std::vector<T> RmsNorm(const std::vector<T>& x, const std::vector<T>& w,
                       double eps) {
  const size_t n = w.size();
  std::vector<T> y(x.size());
  for (size_t row = 0; row < x.size(); row += n) {
    T mean = 0;
    for (size_t i = 0; i < n; ++i) mean += x[row + i] * x[row + i];
    const T inverse = T(1) / std::sqrt(mean / T(n) + T(eps));
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
    T mean = 0, variance = 0;
    for (size_t i = 0; i < n; ++i) mean += x[row + i];
    mean /= T(n);
    for (size_t i = 0; i < n; ++i) {
      variance += (x[row + i] - mean) * (x[row + i] - mean);
    }
    const T inverse = T(1) / std::sqrt(variance / T(n) + T(eps));
    for (size_t i = 0; i < n; ++i) {
      y[row + i] = (x[row + i] - mean) * inverse * w[i] + b[i];
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
