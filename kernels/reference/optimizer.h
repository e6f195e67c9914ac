// AdamW (Loshchilov and Hutter 2019, algorithm 2) as a plain loop over any
// scalar type, and the gradient's sum of squares, for tests: the definition.

#ifndef KERNELS_REFERENCE_OPTIMIZER_H_
#define KERNELS_REFERENCE_OPTIMIZER_H_

#include <cmath>
#include <vector>

#include "kernels/ops/backend.h"

namespace temper::reference {

template <typename T>
void AdamW(const AdamWOptions& options, const std::vector<T>& grad,
           std::vector<T>* p, std::vector<T>* m, std::vector<T>* v) {
  for (size_t i = 0; i < grad.size(); ++i) {
    const T g = grad[i] * T(options.grad_scale);
    (*m)[i] = T(options.beta1) * (*m)[i] + (T(1) - T(options.beta1)) * g;
    (*v)[i] = T(options.beta2) * (*v)[i] + (T(1) - T(options.beta2)) * g * g;
    const T first = (*m)[i] / T(options.bias_correction1);
    const T second = (*v)[i] / T(options.bias_correction2);
    (*p)[i] -= T(options.learning_rate) * T(options.weight_decay) * (*p)[i];
    (*p)[i] -=
        T(options.learning_rate) * first / (std::sqrt(second) + T(options.eps));
  }
}

// By neighbours: 0 + 1, 2 + 3, .., an odd last passes up.
inline double SumByNeighbours(std::vector<double> values) {
  if (values.empty()) return 0;
  while (values.size() > 1) {
    std::vector<double> sums;
    for (size_t i = 0; i + 1 < values.size(); i += 2) {
      sums.push_back(values[i] + values[i + 1]);
    }
    if (values.size() % 2 == 1) sums.push_back(values.back());
    values = sums;
  }
  return values[0];
}

inline double SumSquares(const std::vector<std::vector<float>>& tensors) {
  std::vector<double> of_tensor;
  for (const auto& x : tensors) {
    std::vector<double> of_block((x.size() + 4095) / 4096, 0);
    for (size_t i = 0; i < x.size(); ++i) {
      of_block[i / 4096] += double{x[i]} * x[i];
    }
    of_tensor.push_back(SumByNeighbours(of_block));
  }
  return SumByNeighbours(of_tensor);
}

}  // namespace temper::reference

#endif  // KERNELS_REFERENCE_OPTIMIZER_H_
