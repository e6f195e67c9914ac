// The lightning indexer by plain loops over any scalar type. Test only; see
// kernels/reference/attention.h.

#ifndef KERNELS_REFERENCE_INDEXER_H_
#define KERNELS_REFERENCE_INDEXER_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/reference/attention.h"

namespace temper::reference {

struct IndexerShape {
  int64_t heads = 0;
  int64_t dims = 0;
};

// I[n, row] = sum_h w[n, h] ReLU(q[n, h] . keys[row])
template <typename T>
T IndexScore(const IndexerShape& shape, const std::vector<T>& q,
             const std::vector<T>& w, const std::vector<T>& keys, int64_t n,
             int32_t row) {
  T score = 0;
  for (int64_t h = 0; h < shape.heads; ++h) {
    const int64_t head = n * shape.heads + h;
    const T dot = ChainOf(&q[head * shape.dims], 1, &keys[row * shape.dims], 1,
                          shape.dims);
    score = MulAdd(w[head], RealPart(dot) > 0 ? dot : T(0), score);
  }
  return score;
}

// Positions of the k largest of `scores`, ties to the lowest, ascending. Any
// NaN is below -infinity.
template <typename T>
std::vector<int32_t> TopK(const std::vector<T>& scores, int64_t k) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const bool a_is_nan = scores[a] != scores[a];
    if (scores[b] != scores[b]) return !a_is_nan;
    return scores[a] > scores[b];
  });
  order.resize(std::min<size_t>(order.size(), k));
  std::sort(order.begin(), order.end());
  return order;
}

// kl[n] = KL(p[n] || softmax I[n]) over rows[n], p the mean over heads of the
// attention's probabilities.
template <typename T>
std::vector<T> IndexerKl(const MlaShape& mla, const std::vector<double>& q,
                         const std::vector<double>& keys,
                         const IndexerShape& shape,
                         const std::vector<T>& index_q,
                         const std::vector<T>& index_w,
                         const std::vector<T>& index_keys,
                         const RowLists& rows) {
  const int64_t dims = mla.latent + mla.rope;
  std::vector<T> kl(rows.size(), T(0));
  for (size_t n = 0; n < rows.size(); ++n) {
    std::vector<double> target(rows[n].size(), 0.0);
    for (int64_t h = 0; h < mla.heads; ++h) {
      std::vector<double> p;
      for (const int32_t row : rows[n]) {
        double dot = 0;
        for (int64_t d = 0; d < dims; ++d) {
          dot += q[(n * mla.heads + h) * dims + d] * keys[row * dims + d];
        }
        p.push_back(dot * mla.scale);
      }
      SoftmaxInPlace(&p);
      for (size_t j = 0; j < p.size(); ++j) {
        target[j] += p[j] / static_cast<double>(mla.heads);
      }
    }
    std::vector<T> score;
    for (const int32_t row : rows[n]) {
      score.push_back(IndexScore(shape, index_q, index_w, index_keys,
                                 static_cast<int64_t>(n), row));
    }
    std::vector<T> log_softmax = score;
    const T lse = SoftmaxInPlace(&log_softmax);
    for (size_t j = 0; j < score.size(); ++j) {
      if (target[j] > 0) {
        kl[n] += target[j] * (std::log(target[j]) - (score[j] - lse));
      }
    }
  }
  return kl;
}

}  // namespace temper::reference

#endif  // KERNELS_REFERENCE_INDEXER_H_
