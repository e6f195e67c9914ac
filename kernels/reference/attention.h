// MLA by plain loops over any scalar type: the definition that backends are
// tested against, over float to the bit, and with std::complex their gradients
// (complex step). Test only. Arrays are dense, shapes as in
// kernels/ops/backend.h; the keys of query n are rows[n], row indices of the
// key strip.

#ifndef KERNELS_REFERENCE_ATTENTION_H_
#define KERNELS_REFERENCE_ATTENTION_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/reference/arithmetic.h"

namespace temper::reference {

using RowLists = std::vector<std::vector<int32_t>>;

struct MlaShape {
  int64_t heads = 0;
  int64_t latent = 0;  // C
  int64_t rope = 0;    // R
  double scale = 1;
};

// Absorbed (MQA) form. q [N, H, C + R], keys [rows, C + R] -> z [N, H, C],
// lse [N, H]. Blocks of 64 places of the list with a running maximum m:
// c = exp(m - m'), e = exp(s - m'), l = l c + sum e, z = z c + e . k.
template <typename T>
void MlaAbsorbed(const MlaShape& shape, const std::vector<T>& q,
                 const std::vector<T>& keys, const RowLists& rows,
                 std::vector<T>* z, std::vector<T>* lse) {
  const int64_t dims = shape.latent + shape.rope;
  z->assign(rows.size() * shape.heads * shape.latent, T(0));
  lse->assign(rows.size() * shape.heads, T(0));
  for (size_t head = 0; head < lse->size(); ++head) {
    const std::vector<int32_t>& list = rows[head / shape.heads];
    T* const out = z->data() + head * shape.latent;
    double m = -HUGE_VAL;
    T l = 0;
    for (size_t first = 0; first < list.size(); first += 64) {
      const size_t end = std::min(first + 64, list.size());
      std::vector<T> e;
      double largest = m;
      for (size_t j = first; j < end; ++j) {
        e.push_back(
            ChainOf(&q[head * dims], 1, &keys[list[j] * dims], 1, dims) *
            T(shape.scale));
        largest = std::max(largest, RealPart(e.back()));
      }
      const T c = ExpOf(T(m) - T(largest));
      for (T& value : e) value = ExpOf(value - T(largest));
      l = MulAdd(l, c, SumOf(e));
      for (int64_t i = 0; i < shape.latent; ++i) {
        out[i] = ProductOnto(
            out[i] * c, end - first, [&](size_t j) { return e[j]; },
            [&](size_t j) { return keys[list[first + j] * dims + i]; });
      }
      m = largest;
    }
    (*lse)[head] = LogOfSum(T(m), l);
    for (int64_t i = 0; i < shape.latent && !list.empty(); ++i) out[i] /= l;
  }
}

// Its backward, from z and lse of the forward and dz [N, H, C]: dq [N, H, C +
// R], and dkeys [rows, C + R], added to. p = exp(s - lse),
// ds = p (dz . k - z . dz) scale; queries in order, of each ds . q over the
// heads, then p . dz, each from zero and then added.
template <typename T>
void MlaBackward(const MlaShape& shape, const std::vector<T>& q,
                 const std::vector<T>& keys, const RowLists& rows,
                 const std::vector<T>& z, const std::vector<T>& lse,
                 const std::vector<T>& dz, std::vector<T>* dq,
                 std::vector<T>* dkeys) {
  const int64_t dims = shape.latent + shape.rope, heads = shape.heads;
  const int64_t latent = shape.latent;
  dq->assign(q.size(), T(0));
  for (size_t n = 0; n < rows.size(); ++n) {
    const auto count = static_cast<int64_t>(rows[n].size());
    std::vector<T> p(heads * count), ds(heads * count);
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t head = n * heads + h;
      const T* const dout = &dz[head * latent];
      const T delta = DotOf(&z[head * latent], dout, latent);
      for (int64_t j = 0; j < count; ++j) {
        const T* const key = &keys[rows[n][j] * dims];
        const T s = ChainOf(&q[head * dims], 1, key, 1, dims) * T(shape.scale);
        p[h * count + j] = ExpOf(s - lse[head]);
        ds[h * count + j] = p[h * count + j] *
                            (ChainOf(dout, 1, key, 1, latent) - delta) *
                            T(shape.scale);
      }
      for (int64_t d = 0; d < dims; ++d) {
        (*dq)[head * dims + d] = ProductOnto(
            T(0), count, [&](size_t j) { return ds[h * count + j]; },
            [&](size_t j) { return keys[rows[n][j] * dims + d]; });
      }
    }
    for (int64_t j = 0; j < count; ++j) {
      T* const out = &(*dkeys)[rows[n][j] * dims];
      for (int64_t d = 0; d < dims; ++d) {
        out[d] += ChainOf(&ds[j], count, &q[n * heads * dims + d], dims, heads);
      }
      for (int64_t d = 0; d < latent; ++d) {
        out[d] +=
            ChainOf(&p[j], count, &dz[n * heads * latent + d], latent, heads);
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
