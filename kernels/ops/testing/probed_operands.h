// One operation's operands for the ProbingBackend: copies whose values are
// laced with edges, dense or as strided views of unaligned memory. Not
// thread-safe.

#ifndef KERNELS_OPS_TESTING_PROBED_OPERANDS_H_
#define KERNELS_OPS_TESTING_PROBED_OPERANDS_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/ops/testing/edge_values.h"
#include "kernels/tensor/bf16.h"
#include "kernels/tensor/tensor.h"

namespace temper {

enum class Layout : uint8_t { kDense, kUnaligned, kStrided };  // and unaligned

inline const char* NameOf(Layout layout) {
  return layout == Layout::kDense ? "dense" : "strided and unaligned";
}

// Calls visit(first element) for each row along the last axis, in order.
template <typename Visit>
void ForEachRow(const Tensor& x, const Visit& visit) {
  constexpr int kLeading = Tensor::kRankMax - 1;
  int64_t dim[kLeading] = {1, 1, 1}, stride[kLeading] = {};
  for (int axis = 0; axis + 1 < x.rank(); ++axis) {
    dim[axis] = x.dim(axis);
    stride[axis] = x.stride(axis) * static_cast<int64_t>(DTypeBytes(x.dtype()));
  }
  char* const data = static_cast<char*>(x.data());
  for (int64_t i = 0; i < dim[0]; ++i) {
    for (int64_t j = 0; j < dim[1]; ++j) {
      for (int64_t k = 0; k < dim[2]; ++k) {
        visit(data + i * stride[0] + j * stride[1] + k * stride[2]);
      }
    }
  }
}

// The elements' bytes in order.
inline std::vector<char> ElementsOf(const Tensor& x) {
  const auto bytes = static_cast<int64_t>(DTypeBytes(x.dtype()));
  const int64_t columns = x.dim(-1), step = x.stride(-1) * bytes;
  std::vector<char> elements;
  elements.reserve(x.elements() * bytes);
  ForEachRow(x, [&](const char* row) {
    if (step == bytes) {
      elements.insert(elements.end(), row, row + columns * bytes);
      return;
    }
    for (int64_t i = 0; i < columns; ++i) {
      elements.insert(elements.end(), row + i * step, row + i * step + bytes);
    }
  });
  return elements;
}

// The copy of one view.
class ProbedOperand {
 public:
  ProbedOperand(const Tensor& original, Edges edges, Layout layout)
      : original_(original),
        bytes_(static_cast<int64_t>(DTypeBytes(original.dtype()))),
        row_bytes_(original.dim(-1) * bytes_) {
    LayOut(layout);
    const std::vector<char> elements = ElementsOf(original);
    const char* from = elements.data();
    ForEachRow(copy_, [&](char* row) {
      std::copy_n(from, row_bytes_, row);  // perhaps of nothing, from nowhere
      from += row_bytes_;
    });
    if (original.dtype() == DType::kF32) Lace<float>(edges);
    if (original.dtype() == DType::kBF16) Lace<BF16>(edges);
  }

  const Tensor& original() const { return original_; }
  const Tensor& copy() const { return copy_; }

  // The first of two lists of such elements that differs, or empty. Any NaN is
  // as good as another.
  std::string Difference(const std::vector<char>& got,
                         const std::vector<char>& want) const {
    if (got == want) return "";
    for (int64_t at = 0; at < static_cast<int64_t>(got.size()); at += bytes_) {
      if (std::memcmp(&got[at], &want[at], bytes_) == 0) continue;
      const double a = Number(&got[at]), b = Number(&want[at]);
      if (std::isnan(a) && std::isnan(b)) continue;
      return absl::StrCat("element ", at / bytes_, " is ", a, ", not ", b);
    }
    return "";
  }

  // Whether anything but elements was written. The elements are lost.
  bool WroteBeside() {
    ForEachRow(copy_,
               [&](char* row) { std::memset(row, kBeside, row_bytes_); });
    return std::any_of(memory_.begin(), memory_.end(),
                       [](char byte) { return byte != kBeside; });
  }

 private:
  static constexpr char kBeside = 0x7d;  // of floats, 2.1e37
  static constexpr int64_t kLine = 64;

  // Makes room, with at least a line of it on either side.
  void LayOut(Layout layout) {
    const int rank = original_.rank();
    std::array<int64_t, Tensor::kRankMax> extent = {};
    int64_t elements = 1;
    for (int axis = 0; axis < rank; ++axis) {
      const bool gap = layout == Layout::kStrided && axis > 0;
      extent[axis] = original_.dim(axis) + (gap ? 2 * axis + 1 : 0);
      elements *= extent[axis];
    }
    memory_.assign(elements * bytes_ + 4 * kLine, kBeside);
    const auto start = reinterpret_cast<uintptr_t>(memory_.data());
    char* data = memory_.data() + (2 * kLine - start % kLine);
    if (layout != Layout::kDense) data += bytes_;
    copy_ = RowMajor(data, rank, extent);
    for (int axis = 0; axis < rank; ++axis) {
      copy_ = copy_.Slice(axis, 0, original_.dim(axis));
    }
  }

  Tensor RowMajor(char* data, int rank,
                  const std::array<int64_t, Tensor::kRankMax>& extent) const {
    const DType type = original_.dtype();
    const auto& [a, b, c, d] = extent;
    switch (rank) {
      case 1:
        return Tensor(data, type, {a});
      case 2:
        return Tensor(data, type, {a, b});
      case 3:
        return Tensor(data, type, {a, b, c});
      default:
        CHECK_EQ(rank, 4);
        return Tensor(data, type, {a, b, c, d});
    }
  }

  // A number as any type of element has it.
  double Number(const char* element) const {
    const auto as = [&](auto value) {
      std::memcpy(&value, element, sizeof(value));
      return value;
    };
    switch (original_.dtype()) {
      case DType::kF32:
        return as(0.0f);
      case DType::kF64:
        return as(0.0);
      case DType::kBF16:
        return FloatFromBF16(as(BF16{}));
      case DType::kI64:
        return static_cast<double>(as(int64_t{0}));
      case DType::kI32:
        return as(int32_t{0});
      case DType::kU16:
        return as(uint16_t{0});
      default:
        return as(uint8_t{0});
    }
  }

  template <typename T>
  void Lace(Edges edges) {
    const bool vector = copy_.rank() == 1;  // laced as a diagonal
    const int64_t columns = copy_.dim(-1);
    int64_t row = 0;
    ForEachRow(copy_, [&](char* first) {
      T* const x = reinterpret_cast<T*>(first);
      for (int64_t i = 0; i < columns; ++i) {
        if constexpr (std::is_same_v<T, float>) {
          x[i] = Laced(x[i], edges, vector ? i : row, i);
        } else {
          x[i] = BF16FromFloat(
              Laced(FloatFromBF16(x[i]), edges, vector ? i : row, i));
        }
      }
      ++row;
    });
  }

  Tensor original_;
  int64_t bytes_;  // of an element
  int64_t row_bytes_;
  std::vector<char> memory_;
  Tensor copy_;
};

// All of an operation's: one copy for operands that are the same view. No
// operation takes others that overlap.
class ProbedOperands {
 public:
  ProbedOperands(Edges edges, Layout layout) : edges_(edges), layout_(layout) {}

  void In(const Tensor& x, bool may_be_strided) {
    if (x.empty() || Find(x) != nullptr) return;
    const Layout layout = layout_ == Layout::kStrided && !may_be_strided
                              ? Layout::kUnaligned
                              : layout_;
    operands_.push_back(std::make_unique<ProbedOperand>(x, edges_, layout));
  }

  Tensor operator()(const Tensor& x) const {
    return x.empty() ? x : Find(x)->copy();
  }

  const std::vector<std::unique_ptr<ProbedOperand>>& all() const {
    return operands_;
  }

 private:
  static bool SameView(const Tensor& a, const Tensor& b) {
    if (a.data() != b.data() || a.rank() != b.rank()) return false;
    if (a.dtype() != b.dtype()) return false;
    for (int axis = 0; axis < a.rank(); ++axis) {
      if (a.dim(axis) != b.dim(axis)) return false;
      if (a.stride(axis) != b.stride(axis)) return false;
    }
    return true;
  }

  ProbedOperand* Find(const Tensor& x) const {
    for (const auto& operand : operands_) {
      if (SameView(operand->original(), x)) return operand.get();
    }
    return nullptr;
  }

  const Edges edges_;
  const Layout layout_;
  std::vector<std::unique_ptr<ProbedOperand>> operands_;
};

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_PROBED_OPERANDS_H_
