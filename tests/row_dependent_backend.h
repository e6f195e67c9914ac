// The negative control of the invariance tests: a Backend one of whose
// reductions depends on M. Its matrix products add up from the far end of K
// where the batch has more than one row, and from the near end where it has
// one: both are right, and their bits differ. In bf16 the sum from the far end
// is kept in bf16, as a split over K keeps its parts: a mere reordering would
// be gone, but by chance, as soon as the next product rounds its operand.

#ifndef TESTS_ROW_DEPENDENT_BACKEND_H_
#define TESTS_ROW_DEPENDENT_BACKEND_H_

#include <cmath>
#include <cstdint>
#include <map>

#include "kernels/ops/testing/forwarding_backend.h"
#include "kernels/tensor/bf16.h"

namespace temper {

class RowDependentBackend : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  void SetWeight(const Tensor& values, Weight* weight) override {
    ForwardingBackend::SetWeight(values, weight);
    if (values.dim(0) == 1 && values.contiguous()) weights_[weight] = values;
  }

  void SetQuantisedWeight(const Tensor& codes, const Tensor& scales,
                          Weight* weight) override {
    ForwardingBackend::SetQuantisedWeight(codes, scales, weight);
    if (codes.dim(0) != 1) return;
    std::vector<float>& values = dequantised_[weight];
    values.resize(codes.elements());
    weights_[weight] =
        Tensor(values.data(), DType::kF32, {1, codes.dim(1), codes.dim(2)});
    DequantiseWeight(codes, scales, weights_[weight]);
  }

  void Linear(const Tensor& x, const Weight& w, Use use,
              const Tensor& y) override {
    const auto found = weights_.find(&w);
    if (x.dim(0) == 1 || use != Use::kForward || found == weights_.end()) {
      ForwardingBackend::Linear(x, w, use, y);
      return;
    }
    const int64_t out = y.dim(1), in = x.dim(1);
    const Tensor& weight = found->second;
    const bool narrow = weight.dtype() == DType::kBF16;
    for (int64_t n = 0; n < x.dim(0); ++n) {
      const float* row = x.as<float>() + n * x.stride(0);
      for (int64_t o = 0; o < out; ++o) {
        float sum = 0;
        for (int64_t i = in - 1; i >= 0; --i) {
          const int64_t at = o * in + i;
          sum = narrow ? Rounded(FloatFromBF16(weight.as<BF16>()[at]) *
                                     Rounded(row[i]) +
                                 sum)
                       : std::fma(weight.as<float>()[at], row[i], sum);
        }
        y.as<float>()[n * y.stride(0) + o] = sum;
      }
    }
  }

 private:
  static float Rounded(float x) { return FloatFromBF16(BF16FromFloat(x)); }

  std::map<const Weight*, Tensor> weights_;
  std::map<const Weight*, std::vector<float>> dequantised_;
};

}  // namespace temper

#endif  // TESTS_ROW_DEPENDENT_BACKEND_H_
