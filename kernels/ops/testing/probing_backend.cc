#include "kernels/ops/testing/probing_backend.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <set>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/ops/testing/argument_tensors.h"
#include "kernels/ops/testing/forwarding_backend.h"
#include "kernels/ops/testing/probed_operands.h"

namespace temper {
namespace {

// A weight as the case made it, and what it was made of: a trial makes its own.
struct ProbedWeight : public Weight {
  WeightSpec spec;
  std::unique_ptr<Weight> own;
  std::vector<char> elements;
  Tensor values;  // [groups, out, in], of the elements
};

const ProbedWeight& AsProbed(const Weight* weight) {
  return *static_cast<const ProbedWeight*>(weight);
}

// An operation's own arguments.
struct AsTheyCame {
  const Tensor& operator()(const Tensor& x) const { return x; }
  const Weight* operator()(const Weight* weight) const {
    return AsProbed(weight).own.get();
  }
};

// The four tensors of a parameter are contiguous; all else may be strided.
template <typename Argument>
constexpr bool kMayBeStrided =
    !std::is_same_v<Argument, absl::Span<const AdamWTensor>>;

// One trial of an operation: its operands, what they came to.
class Trial {
 public:
  Trial(Edges edges, Layout layout)
      : edges_(edges), layout_(layout), operands_(edges, layout) {}

  template <typename Operation, typename... Arguments>
  void Run(Backend* backend, Operation operation,
           const Arguments&... arguments) {
    (Enter(arguments), ...);
    const auto map = [&](const auto& x) {
      if constexpr (std::is_same_v<std::decay_t<decltype(x)>, Tensor>) {
        return operands_(x);
      } else {
        return NewLaced(backend, AsProbed(x));
      }
    };
    (backend->*operation)(Mapped(arguments, map)...);
    fault_ = backend->Sync();
    for (const auto& operand : operands_.all()) {
      values_.push_back(ElementsOf(operand->copy()));
      wrote_beside_.push_back(operand->WroteBeside());
    }
  }

  void ExpectAs(const Trial& want, const std::string& what) const {
    EXPECT_EQ(fault_, want.fault_) << what;
    for (size_t i = 0; i < values_.size(); ++i) {
      const std::string operand =
          absl::StrCat(what, ", operand ", i, " ",
                       operands_.all()[i]->original().DebugString());
      EXPECT_FALSE(wrote_beside_[i]) << operand << " was written beside";
      // What a fault leaves is not specified.
      if (!fault_.ok() || !want.fault_.ok()) continue;
      EXPECT_EQ(operands_.all()[i]->Difference(values_[i], want.values_[i]), "")
          << operand;
    }
  }

 private:
  template <typename Argument>
  void Enter(const Argument& x) {
    ForEachTensor(x, [&](const Tensor& tensor) {
      operands_.In(tensor, kMayBeStrided<Argument>);
    });
  }

  // Valid as long as the trial.
  const Weight* NewLaced(Backend* backend, const ProbedWeight& weight) {
    auto laced = backend->NewWeight(weight.spec);
    CHECK(laced.ok()) << laced.status();
    const ProbedOperand values(weight.values, edges_, layout_);
    backend->SetWeight(values.copy(), laced->get());
    return weights_.emplace_back(*std::move(laced)).get();
  }

  const Edges edges_;
  const Layout layout_;
  ProbedOperands operands_;
  std::vector<std::unique_ptr<Weight>> weights_;
  absl::Status fault_;
  std::vector<std::vector<char>> values_;
  std::vector<bool> wrote_beside_;
};

// An operation, its shapes, types and options: what tells one trial from
// another, as bytes.
class TrialKey {
 public:
  template <typename Operation>
  explicit TrialKey(Operation operation) {
    Add(operation);
  }

  template <typename Argument>
  void Enter(const Argument& x) {
    ForEachLeaf(x, [&](const auto& leaf) { Add(leaf); });
  }
  template <typename Element>
  void Enter(const absl::Span<const Element>& elements) {
    for (const Element& x : elements) Enter(x);
  }
  void Enter(const Weight& weight) { Add(&weight); }
  // Whose options are an operand.
  void Enter(const SampleArgs& x) {
    ForEachLeaf(x, [&](const auto& leaf) { Add(leaf); });
    SampleRow first;
    std::memcpy(&first, x.rows.data(), sizeof(first));
    Add(first.options);
    Add(first.keep);
  }

  const std::string& bytes() const { return bytes_; }

 private:
  template <typename Plain>
  void Add(const Plain& x) {
    bytes_.append(reinterpret_cast<const char*>(&x), sizeof(x));
  }
  void Add(const Tensor& x) {
    Add(x.dtype());
    for (int axis = 0; axis < x.rank(); ++axis) Add(x.dim(axis));
  }
  void Add(const Weight* const& weight) {
    const WeightSpec& spec = AsProbed(weight).spec;
    ForEachLeaf(spec, [&](const auto& leaf) { Add(leaf); });
  }

  std::string bytes_;
};

// Every operation: the trials, then itself as it came.
class Probe {
 public:
  Probe(std::string name, Backend* twin, Backend* definition)
      : name_(std::move(name)), twin_(twin), definition_(definition) {}

  template <typename Operation, typename... Arguments>
  void operator()(Backend* device, Operation operation,
                  const Arguments&... arguments) {
    TrialKey key(operation);
    (key.Enter(arguments), ...);
    int64_t largest = 0;
    const auto look = [&](const Tensor& x) {
      largest = std::max(largest, x.elements());
    };
    (ForEachTensor(arguments, look), ...);
    if (largest <= kElementsMax && tried_.insert(key.bytes()).second) {
      Try(operation, arguments...);
    }
    (device->*operation)(Mapped(arguments, AsTheyCame())...);
  }

 private:
  // Of a tensor: what is larger takes long, and smaller ones tell as much.
  static constexpr int64_t kElementsMax = 100'000;

  template <typename Operation, typename... Arguments>
  void Try(Operation operation, const Arguments&... arguments) {
    for (const Edges edges : {Edges::kTiny, Edges::kHuge}) {
      Trial want(edges, Layout::kDense);
      want.Run(definition_, operation, arguments...);
      for (const Layout layout : {Layout::kDense, Layout::kStrided}) {
        Trial got(edges, layout);
        got.Run(twin_, operation, arguments...);
        got.ExpectAs(want, absl::StrCat(name_, " with ", NameOf(edges),
                                        " edges, ", NameOf(layout)));
      }
    }
  }

  const std::string name_;
  Backend* const twin_;
  Backend* const definition_;
  std::set<std::string> tried_;
};

class ProbingBackend : public ForwardingBackendBy<Probe> {
 public:
  ProbingBackend(std::string name, std::unique_ptr<Backend> device,
                 std::unique_ptr<Backend> twin,
                 std::unique_ptr<Backend> definition)
      : ForwardingBackendBy(
            device.get(), Probe(std::move(name), twin.get(), definition.get())),
        device_(std::move(device)),
        twin_(std::move(twin)),
        definition_(std::move(definition)) {}

  absl::StatusOr<std::unique_ptr<Weight>> NewWeight(
      const WeightSpec& spec) override {
    auto weight = std::make_unique<ProbedWeight>();
    weight->spec = spec;
    ASSIGN_OR_RETURN(weight->own, device_->NewWeight(spec));
    return std::unique_ptr<Weight>(std::move(weight));
  }

  void SetWeight(const Tensor& values, Weight* weight) override {
    auto* const probed = static_cast<ProbedWeight*>(weight);
    device_->SetWeight(values, probed->own.get());
    probed->elements = ElementsOf(values);
    probed->values =
        Tensor(probed->elements.data(), values.dtype(),
               {values.dim(0), values.dim(1), values.dim(2)}, values.device());
  }

  // A trial makes its own of what the codes stand for.
  void SetQuantisedWeight(const Tensor& codes, const Tensor& scales,
                          Weight* weight) override {
    auto* const probed = static_cast<ProbedWeight*>(weight);
    device_->SetQuantisedWeight(codes, scales, probed->own.get());
    probed->elements.resize(codes.elements() * sizeof(float));
    probed->values =
        Tensor(probed->elements.data(), DType::kF32,
               {codes.dim(0), codes.dim(1), codes.dim(2)}, codes.device());
    device_->DequantiseWeight(codes, scales, probed->values);
  }

 private:
  const std::unique_ptr<Backend> device_;
  const std::unique_ptr<Backend> twin_;
  const std::unique_ptr<Backend> definition_;
};

}  // namespace

std::unique_ptr<Backend> NewProbingBackend(
    std::string name, std::unique_ptr<Backend> device,
    std::unique_ptr<Backend> twin, std::unique_ptr<Backend> definition) {
  return std::make_unique<ProbingBackend>(std::move(name), std::move(device),
                                          std::move(twin),
                                          std::move(definition));
}

}  // namespace temper
