// What op cases are made of: runs one operation on every backend under test,
// and in batches of several sizes, and compares bits; checks a backward against
// the complex step of its reference.

#ifndef KERNELS_OPS_TESTING_OP_CASE_H_
#define KERNELS_OPS_TESTING_OP_CASE_H_

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/log.h"
#include "kernels/base/rng.h"
#include "kernels/ops/backend.h"
#include "kernels/ops/testing/backends_under_test.h"
#include "kernels/ops/testing/edge_values.h"
#include "kernels/reference/arithmetic.h"
#include "kernels/tensor/bf16.h"
#include "kernels/tensor/tensor.h"

namespace temper {

using Floats = std::vector<float>;
using Ints = std::vector<int32_t>;

// Standard normals of stream `seed`.
inline Floats Normals(uint64_t seed, int64_t count) {
  Floats values(count);
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(
        Normal({.seed = seed, .ordinal = static_cast<uint32_t>(i)}));
  }
  return values;
}

inline Tensor View(Floats& x, std::initializer_list<int64_t> shape) {
  return Tensor(x.data(), DType::kF32, shape);
}
inline Tensor View(Ints& x, std::initializer_list<int64_t> shape) {
  return Tensor(x.data(), DType::kI32, shape);
}

template <typename T>
std::vector<T> As(const Floats& x) {
  return std::vector<T>(x.begin(), x.end());
}

// Whether a backend has products of that type; one that has not refuses it by
// name.
inline bool Multiplies(Backend& backend, DType type) {
  return type == DType::kF32 ||
         backend.NewWeight({.out = 1, .in = 1, .dtype = type}).ok();
}

// Every shape of a case, with operands in each of `types`.
template <typename Shapes>
auto InTypes(const Shapes& shapes, std::initializer_list<DType> types) {
  std::vector<std::pair<std::decay_t<decltype(shapes[0])>, DType>> all;
  for (const auto& shape : shapes) {
    for (const DType type : types) all.emplace_back(shape, type);
  }
  return all;
}
template <typename Shapes>
auto InBothTypes(const Shapes& shapes) {
  return InTypes(shapes, {DType::kF32, DType::kBF16});
}
// With codes and their scales too.
template <typename Shapes>
auto InEveryType(const Shapes& shapes) {
  return InTypes(shapes, {DType::kF32, DType::kBF16, DType::kF8E4M3});
}

inline Backend& Definition() { return *BackendsUnderTest().front().backend; }

// Values in the type that a weight, a table or a strip of keys has.
class Stored {
 public:
  Stored(Floats values, DType type) : type_(type), floats_(std::move(values)) {
    if (type == DType::kF32) return;
    for (const float x : floats_) narrow_.push_back(BF16FromFloat(x));
  }
  Tensor View(std::initializer_list<int64_t> shape) {
    void* data = type_ == DType::kF32 ? static_cast<void*>(floats_.data())
                                      : static_cast<void*>(narrow_.data());
    return Tensor(data, type_, shape);
  }

 private:
  DType type_;
  Floats floats_;
  std::vector<BF16> narrow_;
};

inline Floats FloatsOf(const std::vector<reference::Narrow>& x) {
  Floats floats;
  for (const reference::Narrow value : x) floats.push_back(value.value);
  return floats;
}
inline Floats FloatsOf(const Floats& x) { return x; }

inline std::unique_ptr<Weight> Pack(Backend& backend, const Floats& values,
                                    int64_t groups, int64_t out, int64_t in,
                                    DType type = DType::kF32,
                                    PackedFor packed_for = PackedFor::kBoth) {
  auto weight = backend.NewWeight({.groups = groups,
                                   .out = out,
                                   .in = in,
                                   .dtype = type,
                                   .packed_for = packed_for});
  CHECK(weight.ok()) << weight.status().ToString();
  Floats copy = values;
  backend.SetWeight(View(copy, {groups, out, in}), weight->get());
  return *std::move(weight);
}

// Standard normals with the edges of fp32 among them.
inline Floats EdgyNormals(uint64_t seed, int64_t count) {
  constexpr uint64_t kTiny = std::size(kTinyEdges);
  Floats values = Normals(seed, count);
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t draw = UniformBelow(
        {.seed = seed, .group = 7, .ordinal = static_cast<uint32_t>(i)}, 200);
    if (draw < kTiny) {
      values[i] = kTinyEdges[draw];
    } else if (draw < kTiny + std::size(kHugeEdges)) {
      values[i] = kHugeEdges[draw - kTiny];
    }
  }
  return values;
}

// A matrix with edges in every other row: with some in each, all sums of a long
// depth would be infinite or none.
inline Floats SomeEdges(uint64_t seed, int64_t rows, int64_t columns) {
  Floats values = EdgyNormals(seed, rows * columns);
  const Floats plain = Normals(seed, rows * columns);
  for (int64_t i = 0; i < rows * columns; ++i) {
    if (i / columns % 2 == 0) values[i] = plain[i];
  }
  return values;
}

// Runs rows [begin, end) of an operation, returns its outputs one after
// another, those of a row together.
using OpRun = std::function<Floats(Backend&, int64_t begin, int64_t end)>;

// Any NaN is as good as another: devices differ in their payloads.
inline void ExpectSameBits(const Floats& got, const Floats& want,
                           const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i]) && std::isnan(want[i])) continue;
    ASSERT_EQ(std::memcmp(&got[i], &want[i], sizeof(float)), 0)
        << what << ": element " << i << " is " << got[i] << ", not " << want[i];
  }
}

// `type`: of the products in it.
inline void ExpectSameBitsEverywhere(const OpRun& run, int64_t rows,
                                     const std::string& what,
                                     DType type = DType::kF32) {
  const Floats want = run(Definition(), 0, rows);
  for (const auto& [name, backend] : BackendsUnderTest()) {
    if (!Multiplies(*backend, type)) continue;
    ExpectSameBits(run(*backend, 0, rows), want, what + " on " + name);
  }
}

// Batches of 1, 2, 3, 8 and 33 rows give the bits of the whole.
inline void ExpectRowsAloneAsInTheBatch(const OpRun& run, int64_t rows,
                                        const std::string& what,
                                        DType type = DType::kF32) {
  for (const auto& [name, backend] : BackendsUnderTest()) {
    if (!Multiplies(*backend, type)) continue;
    const Floats want = run(*backend, 0, rows);
    for (const int64_t batch : {1, 2, 3, 8, 33}) {
      Floats got;
      for (int64_t row = 0; row < rows; row += batch) {
        const Floats part = run(*backend, row, std::min(rows, row + batch));
        got.insert(got.end(), part.begin(), part.end());
      }
      ExpectSameBits(got, want, what + " on " + name);
    }
  }
}

// A chain of `terms` roundings is off by at most that many half-ulps of the
// largest partial sum, taken as four times the largest result; 16 more cover
// exp, division and square root.
inline void ExpectNear(const Floats& got, const std::vector<double>& want,
                       int64_t terms, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double largest = 1;
  for (const double x : want) largest = std::max(largest, std::fabs(x));
  const double tolerance =
      0x1p-24 * static_cast<double>(terms + 16) * 4 * largest;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], tolerance) << what << ": element " << i;
  }
}

using Complexes = std::vector<std::complex<double>>;

// d (sum dy . f(x)) / dx by complex step (Squire and Trapp 1998).
inline std::vector<double> ComplexStep(
    const std::function<Complexes(const Complexes&)>& f, const Floats& x,
    const Floats& dy) {
  constexpr double kStep = 1e-30;
  Complexes at(x.begin(), x.end());
  std::vector<double> gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    at[i] = {x[i], kStep};
    const Complexes y = f(at);
    CHECK_EQ(y.size(), dy.size());
    for (size_t j = 0; j < y.size(); ++j) {
      gradient[i] += y[j].imag() / kStep * dy[j];
    }
    at[i] = x[i];
  }
  return gradient;
}

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_OP_CASE_H_
