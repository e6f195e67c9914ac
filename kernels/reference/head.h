// Log-probabilities over kept sets by plain loops over any scalar type, and how
// a token is chosen, in integers. Test only; see
// kernels/reference/arithmetic.h.

#ifndef KERNELS_REFERENCE_HEAD_H_
#define KERNELS_REFERENCE_HEAD_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/ops/sample_arguments.h"
#include "kernels/reference/arithmetic.h"

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
    z.push_back(ChainOf(&x[n * depth], 1, &w[id * depth], 1, depth) /
                T(temperature));
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
  int64_t top_k = 0;
  double top_p = 1;
  double min_p = 0;
  int64_t kept_max = kKeptMax;
};

// Of each logit z (after temperature): floor(exp(z - max z) 2^40).
inline std::vector<uint64_t> Masses(const std::vector<float>& z) {
  const float largest = *std::max_element(z.begin(), z.end());
  std::vector<uint64_t> masses;
  for (const float value : z) {
    masses.push_back(
        static_cast<uint64_t>(std::ldexp(ExpOf(value - largest), 40)));
  }
  return masses;
}

// The ids that top-k, top-p and min-p leave of logits after temperature, as
// kernels/ops/op_arguments.h says, ascending. All of them when every rule is
// off.
inline std::vector<int32_t> KeptSet(const std::vector<float>& z,
                                    const Truncation& rules) {
  using Wide = unsigned __int128;
  std::vector<int32_t> order(z.size());
  std::iota(order.begin(), order.end(), 0);
  const int64_t size = static_cast<int64_t>(order.size());
  const bool top_k = rules.top_k > 0 && rules.top_k < size;
  const bool top_p = rules.top_p > 0 && rules.top_p < 1;
  if (!top_k && !top_p && rules.min_p <= 0) return order;
  const std::vector<uint64_t> mass = Masses(z);
  const auto fraction = [](double x) {
    return static_cast<uint64_t>(std::ldexp(x, 40));
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return z[a] > z[b]; });
  if (top_k) order.resize(rules.top_k);
  if (top_p) {
    uint64_t total = 0, running = 0;
    for (const int32_t id : order) total += mass[id];
    const auto needed =
        static_cast<uint64_t>(Wide{total} * fraction(rules.top_p) >> 40);
    size_t keep = 0;
    do {
      running += mass[order[keep++]];
    } while (keep < order.size() && running < needed);
    order.resize(keep);
  }
  const uint64_t floor = fraction(rules.min_p);
  std::erase_if(order, [&](int32_t id) { return mass[id] < floor; });
  if (static_cast<int64_t>(order.size()) > rules.kept_max) {
    order.resize(rules.kept_max);
  }
  std::sort(order.begin(), order.end());
  return order;
}

// The one of `kept`, ascending, whose running mass is the first to exceed
// floor(total word / 2^32).
inline int32_t SampledId(const std::vector<float>& z,
                         const std::vector<int32_t>& kept, uint32_t word) {
  const std::vector<uint64_t> mass = Masses(z);
  uint64_t total = 0, running = 0;
  for (const int32_t id : kept) total += mass[id];
  const auto goal =
      static_cast<uint64_t>(static_cast<unsigned __int128>(total) * word >> 32);
  for (const int32_t id : kept) {
    running += mass[id];
    if (running > goal) return id;
  }
  return -1;
}

}  // namespace temper::reference

#endif  // KERNELS_REFERENCE_HEAD_H_
