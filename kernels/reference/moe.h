// Mixture of experts as plain loops over any scalar type, for tests: the
// definition. Equations: kernels/ops/backend.h.

#ifndef KERNELS_REFERENCE_MOE_H_
#define KERNELS_REFERENCE_MOE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/reference/pointwise.h"

namespace temper::reference {

// The `slots` experts of one row of biased scores [E], ascending.
inline std::vector<int32_t> ChooseExperts(const std::vector<double>& biased,
                                          size_t groups, size_t topk_group,
                                          size_t slots) {
  const size_t size = biased.size() / groups;
  const auto best_first = [](const std::vector<double>& values) {
    std::vector<int32_t> order(values.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return values[a] > values[b];
    });
    return order;
  };
  std::vector<double> group_scores(groups, 0);
  for (size_t g = 0; g < groups; ++g) {
    std::vector<double> in(biased.begin() + g * size,
                           biased.begin() + (g + 1) * size);
    std::sort(in.rbegin(), in.rend());
    group_scores[g] = in[0] + (size > 1 ? in[1] : 0);
  }
  std::vector<int32_t> kept = best_first(group_scores);
  kept.resize(topk_group);
  std::vector<int32_t> chosen;
  for (const int32_t e : best_first(biased)) {
    const auto group = static_cast<int32_t>(e / size);
    if (std::find(kept.begin(), kept.end(), group) == kept.end()) continue;
    if (chosen.size() < slots) chosen.push_back(e);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

// gates [rows, slots] of logits [rows, experts] over given routes.
template <typename T>
std::vector<T> Gates(const std::vector<T>& logits, size_t experts,
                     const std::vector<int32_t>& routes, size_t slots,
                     double factor) {
  std::vector<T> gates(routes.size());
  for (size_t n = 0; n < logits.size() / experts; ++n) {
    T sum = 0;
    for (size_t a = 0; a < slots; ++a) {
      gates[n * slots + a] =
          Sigmoid(logits[n * experts + routes[n * slots + a]]);
      sum += gates[n * slots + a];
    }
    for (size_t a = 0; a < slots; ++a) gates[n * slots + a] *= factor / sum;
  }
  return gates;
}

// y[n] += sum_a gates[n, a] x[place[n, a]], rows of `columns`.
template <typename T>
std::vector<T> Combine(const std::vector<T>& x,
                       const std::vector<int32_t>& place,
                       const std::vector<T>& gates, std::vector<T> y,
                       size_t columns) {
  const size_t rows = y.size() / columns;
  const size_t slots = place.size() / rows;
  for (size_t i = 0; i < place.size(); ++i) {
    for (size_t j = 0; j < columns; ++j) {
      y[i / slots * columns + j] += gates[i] * x[place[i] * columns + j];
    }
  }
  return y;
}

}  // namespace temper::reference

#endif  // KERNELS_REFERENCE_MOE_H_
