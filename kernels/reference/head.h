// Log-probabilities over kept sets by plain loops over any scalar type. Test
// only; see kernels/reference/attention.h.

#ifndef KERNELS_REFERENCE_HEAD_H_
#define KERNELS_REFERENCE_HEAD_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/reference/attention.h"

namespace temper::reference {

// Log-softmax of (W x[n]) / temperature at `target`, over `kept` (empty: the
// whole vocabulary). x [n, D], w [V, D]. entropy may be null.
template <typename T>
T LogProb(const std::vector<T>& x, const std::vector<T>& w, int64_t depth,
          int64_t n, int32_t target, std::vector<int32_t> kept,
          double temperature, T* entropy) {
  if (kept.empty()) {
    kept.resize(w.size() / depth);
    std::iota(kept.begin(), kept.end(), 0);
  }
  std::vector<T> z;
  T at_target = 0;
  for (const int32_t id : kept) {
    T dot = 0;
    for (int64_t d = 0; d < depth; ++d) {
      dot += x[n * depth + d] * w[id * depth + d];
    }
    z.push_back(dot / temperature);
    if (id == target) at_target = z.back();
  }
  std::vector<T> p = z;
  const T lse = SoftmaxInPlace(&p);
  if (entropy != nullptr) {
    *entropy = 0;
    for (size_t i = 0; i < z.size(); ++i) *entropy -= p[i] * (z[i] - lse);
  }
  return at_target - lse;
}

struct Truncation {
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1;
  double min_p = 0;
  int64_t kept_max = 512;
};

// The ids that temperature, top-k, top-p and min-p leave, in that order, each
// rule renormalising, at most kept_max; ascending. All of them when every rule
// is off.
inline std::vector<int32_t> KeptSet(const std::vector<double>& logits,
                                    const Truncation& rules) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const int64_t size = static_cast<int64_t>(order.size());
  const bool top_k = rules.top_k > 0 && rules.top_k < size;
  const bool top_p = rules.top_p > 0 && rules.top_p < 1;
  if (!top_k && !top_p && rules.min_p <= 0) return order;
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (top_k) order.resize(rules.top_k);
  const auto mass = [&](int32_t id) {
    return std::exp((logits[id] - logits[order[0]]) / rules.temperature);
  };
  if (top_p) {
    double total = 0;
    for (const int32_t id : order) total += mass(id);
    double running = 0;
    size_t keep = 0;
    while (keep < order.size() && running < rules.top_p * total) {
      running += mass(order[keep++]);
    }
    order.resize(keep);
  }
  while (order.size() > 1 && mass(order.back()) < rules.min_p) {
    order.pop_back();
  }
  if (static_cast<int64_t>(order.size()) > rules.kept_max) {
    order.resize(rules.kept_max);
  }
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace temper::reference

#endif  // KERNELS_REFERENCE_HEAD_H_
