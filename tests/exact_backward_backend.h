// A Backend that goes back in double by plain loops: what a backward in bf16 or
// FP8 is held against. Its operands are those of the forward before it, as that
// rounded or quantised them; incoming gradients, probabilities and sums are not
// rounded, but for the floats that lie between two operations. In its other
// phases it passes everything on. Its device's memory must be the host's.

#ifndef TESTS_EXACT_BACKWARD_BACKEND_H_
#define TESTS_EXACT_BACKWARD_BACKEND_H_

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "absl/functional/function_ref.h"
#include "kernels/ops/testing/forwarding_backend.h"

namespace temper {

class ExactBackwardBackend : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  enum class Phase { kForward, kBackward, kExactBackward };
  void set_phase(Phase phase) { phase_ = phase; }
  // What the gradient of attention's queries is multiplied by when exact: so
  // that a test can see that it would notice.
  void set_spoiled_by(double factor) { spoiled_by_ = factor; }

  void SetWeight(const Tensor& values, Weight* weight) override;
  void SetQuantisedWeight(const Tensor& codes, const Tensor& scales,
                          Weight* weight) override;
  void Linear(const Tensor& x, const Weight& w, Use use,
              const Tensor& y) override;
  void HeadLinear(const Tensor& x, const Weight& w, Use use,
                  const Tensor& y) override;
  void GroupedLinear(const GroupedLinearArgs& args) override;
  void LinearWeightGrad(const WeightGradArgs& args) override;
  void HeadLinearWeightGrad(const WeightGradArgs& args) override;
  void GroupedLinearWeightGrad(
      const GroupedLinearWeightGradArgs& args) override;
  void SparseMlaBackward(const SparseMlaBackwardArgs& args) override;
  void IndexerKlBackward(const IndexerKlBackwardArgs& args) override;
  void LogProbBackward(const LogProbBackwardArgs& args) override;

 private:
  struct Matrices {
    int64_t out = 0, in = 0;
    std::vector<double> values;  // [groups, out, in]
  };

  // y = W x of matrix `group` over rows x [N, from].
  void Multiply(const Tensor& x, const Weight& w, int64_t group, Use use,
                const Tensor& y) const;
  void ForEachGroup(
      const Tensor& offsets,
      absl::FunctionRef<void(int64_t, int64_t, int64_t)> body) const;

  bool exact() const { return phase_ == Phase::kExactBackward; }

  Phase phase_ = Phase::kForward;
  double spoiled_by_ = 1;
  std::map<const Weight*, Matrices> weights_;
  // What a forward multiplied a head's matrices with. Of W_UK's gradient the
  // operand stands in the gradient's place, for it was used transposed.
  std::set<const void*> head_operands_;
};

}  // namespace temper

#endif  // TESTS_EXACT_BACKWARD_BACKEND_H_
