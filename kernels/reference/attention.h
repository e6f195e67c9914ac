// MLA by plain loops over any scalar type: the definition that backends are
// tested against, and with std::complex their gradients (complex step). Test
// only. Arrays are dense, shapes as in kernels/ops/backend.h; the keys of query
// n are rows[n], row indices of the key strip.

#ifndef KERNELS_REFERENCE_ATTENTION_H_
#define KERNELS_REFERENCE_ATTENTION_H_

#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

namespace temper::reference {

using RowLists = std::vector<std::vector<int32_t>>;

inline double RealPart(double x) { return x; }
inline double RealPart(std::complex<double> x) { return x.real(); }

// log sum exp over `x`; the probabilities replace x.
template <typename T>
T SoftmaxInPlace(std::vector<T>* x) {
  double largest = -HUGE_VAL;
  for (const T& value : *x) largest = std::max(largest, RealPart(value));
  T sum = 0;
  for (T& value : *x) {
    value = std::exp(value - largest);
    sum += value;
  }
  for (T& value : *x) value /= sum;
  return largest + std::log(sum);
}

struct MlaShape {
  int64_t heads = 0;
  int64_t latent = 0;  // C
  int64_t rope = 0;    // R
  double scale = 1;
};

// Absorbed (MQA) form. q [N, H, C + R], keys [rows, C + R] -> z [N, H, C],
// lse [N, H].
template <typename T>
void MlaAbsorbed(const MlaShape& shape, const std::vector<T>& q,
                 const std::vector<T>& keys, const RowLists& rows,
                 std::vector<T>* z, std::vector<T>* lse) {
  const int64_t dims = shape.latent + shape.rope;
  z->assign(rows.size() * shape.heads * shape.latent, T(0));
  lse->assign(rows.size() * shape.heads, T(0));
  for (size_t n = 0; n < rows.size(); ++n) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      const int64_t head = n * shape.heads + h;
      std::vector<T> p;
      for (const int32_t row : rows[n]) {
        T dot = 0;
        for (int64_t d = 0; d < dims; ++d) {
          dot += q[head * dims + d] * keys[row * dims + d];
        }
        p.push_back(dot * shape.scale);
      }
      (*lse)[head] = SoftmaxInPlace(&p);
      for (size_t j = 0; j < p.size(); ++j) {
        for (int64_t c = 0; c < shape.latent; ++c) {
          (*z)[head * shape.latent + c] += p[j] * keys[rows[n][j] * dims + c];
        }
      }
    }
  }
}

// Expanded (MHA) form: every head builds its own keys w_uk c + rope key and
// values w_uv c. q_nope [N, H, P], q_rope [N, H, R], w_uk [H, P, C], w_uv
// [H, V, C] -> o [N, H, V].
template <typename T>
std::vector<T> MlaExpanded(const MlaShape& shape, int64_t nope, int64_t value,
                           const std::vector<T>& q_nope,
                           const std::vector<T>& q_rope,
                           const std::vector<T>& keys,
                           const std::vector<T>& w_uk,
                           const std::vector<T>& w_uv, const RowLists& rows) {
  const int64_t dims = shape.latent + shape.rope;
  const auto expand = [&](const std::vector<T>& w, int64_t row_of_w,
                          int32_t key) {
    T sum = 0;
    for (int64_t c = 0; c < shape.latent; ++c) {
      sum += w[row_of_w * shape.latent + c] * keys[key * dims + c];
    }
    return sum;
  };
  std::vector<T> o(rows.size() * shape.heads * value, T(0));
  for (size_t n = 0; n < rows.size(); ++n) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      const int64_t head = n * shape.heads + h;
      std::vector<T> p;
      for (const int32_t row : rows[n]) {
        T dot = 0;
        for (int64_t d = 0; d < nope; ++d) {
          dot += q_nope[head * nope + d] * expand(w_uk, h * nope + d, row);
        }
        for (int64_t d = 0; d < shape.rope; ++d) {
          dot += q_rope[head * shape.rope + d] *
                 keys[row * dims + shape.latent + d];
        }
        p.push_back(dot * shape.scale);
      }
      SoftmaxInPlace(&p);
      for (size_t j = 0; j < p.size(); ++j) {
        for (int64_t v = 0; v < value; ++v) {
          o[head * value + v] += p[j] * expand(w_uv, h * value + v, rows[n][j]);
        }
      }
    }
  }
  return o;
}

}  // namespace temper::reference

#endif  // KERNELS_REFERENCE_ATTENTION_H_
