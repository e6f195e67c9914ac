// AdamW (Loshchilov and Hutter 2019, algorithm 2) as a plain loop over any
// scalar type, for tests: the definition.

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

}  // namespace temper::reference

#endif  // KERNELS_REFERENCE_OPTIMIZER_H_
