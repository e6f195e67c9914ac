// That the shapes which kernels/ops/*_arguments.h state are held: one tensor of
// an operation larger by one along one axis, where the others say its size, is
// our own bug and ends the process. A loop would read or write past an end.

#ifndef KERNELS_OPS_TESTING_SHAPE_CASE_H_
#define KERNELS_OPS_TESTING_SHAPE_CASE_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/ops/testing/op_case.h"

namespace temper {

// Letters of the argument files, each of another size; Rows are a strip's.
namespace sizes {
constexpr int64_t N = 3, in = 4, out = 5, E = 6, A = 2, D = 7, V = 8, H = 9;
constexpr int64_t C = 10, R = 2, Hi = 11, Di = 12, K = 13, Rows = 70;
}  // namespace sizes

// Memory of its own for every tensor, and more of it than any is given.
class Memory {
 public:
  Tensor F(std::initializer_list<int64_t> shape) {
    floats_.push_back(std::make_unique<Floats>(1 << 13, 0.5f));
    return View(*floats_.back(), shape);
  }
  // Begins with `values`, then goes on in zeros.
  Tensor I(std::initializer_list<int64_t> shape, Ints values = {}) {
    values.resize(1 << 13, 0);
    ints_.push_back(std::make_unique<Ints>(std::move(values)));
    return View(*ints_.back(), shape);
  }

 private:
  std::vector<std::unique_ptr<Floats>> floats_;
  std::vector<std::unique_ptr<Ints>> ints_;
};

inline Tensor Grown(const Tensor& x, int axis) {
  int64_t dim[3] = {1, 1, 1};
  for (int i = 0; i < x.rank(); ++i) dim[i] = x.dim(i) + (i == axis);
  switch (x.rank()) {
    case 1:
      return Tensor(x.data(), x.dtype(), {dim[0]});
    case 2:
      return Tensor(x.data(), x.dtype(), {dim[0], dim[1]});
    default:
      return Tensor(x.data(), x.dtype(), {dim[0], dim[1], dim[2]});
  }
}

template <typename Args>
struct Sized {
  const char* name;
  Tensor Args::*tensor;
  std::vector<int> axes;  // that the other tensors fix
};

// The tensors of `good`, which is well, are held to their axes by `run`, on
// every device that has products of `type`. `weight`: of the arguments' w,
// where they have one.
template <typename Args>
void ExpectShapesAreHeld(void (Backend::*run)(const Args&), Args good,
                         const std::vector<Sized<Args>>& tensors,
                         const WeightSpec& weight = {},
                         DType type = DType::kF32) {
  for (const auto& [name, device] : BareDevices()) {
    if (!Multiplies(*device, type)) continue;
    std::unique_ptr<Weight> w;
    if constexpr (requires { *good.w; }) {
      w = Pack(*device, Floats(weight.groups * weight.out * weight.in, 1),
               weight.groups, weight.out, weight.in);
      good.w = w.get();
    }
    (*device.*run)(good);
    for (const Sized<Args>& sized : tensors) {
      for (const int axis : sized.axes) {
        Args bad = good;
        bad.*sized.tensor = Grown(good.*sized.tensor, axis);
        EXPECT_DEATH((*device.*run)(bad), "CHECK ")
            << name << ": " << sized.name << ", axis " << axis;
      }
    }
  }
}

// Every query sees the first key alone.
inline KeyMap FirstKey(Memory* m) {
  using sizes::N;
  return {.sequence = m->I({N}), .position = m->I({N}), .blocks = m->I({1, 1})};
}
inline Tensor Selected(Memory* m) {
  using sizes::K, sizes::N;
  Ints chosen(N * K, -1);
  for (int64_t n = 0; n < N; ++n) chosen[n * K] = 0;
  return m->I({N, K}, chosen);
}

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_SHAPE_CASE_H_
