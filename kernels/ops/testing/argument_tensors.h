// The tensors among an operation's arguments, whatever the operation: those of
// a struct of kernels/ops/*_arguments.h are found by the types of its fields,
// so that none can be forgotten and no list of them is kept.

#ifndef KERNELS_OPS_TESTING_ARGUMENT_TENSORS_H_
#define KERNELS_OPS_TESTING_ARGUMENT_TENSORS_H_

#include <tuple>
#include <type_traits>
#include <vector>

#include "absl/types/span.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/tensor.h"

namespace temper {

// Stands for a value of any type, where only types are asked for.
struct AnyValue {
  template <typename T>
  operator T() const;
};

// How many values a struct can be made of.
template <typename Struct, typename... Values>
constexpr int FieldCount() {
  if constexpr (requires { Struct{Values()..., AnyValue()}; }) {
    return FieldCount<Struct, Values..., AnyValue>();
  } else {
    return sizeof...(Values);
  }
}

// References to a struct's fields, in order.
template <typename Struct>
auto FieldsOf(Struct& x) {
  constexpr int kFields = FieldCount<std::remove_const_t<Struct>>();
  static_assert(kFields >= 3 && kFields <= 14, "give this number a line");
  if constexpr (kFields == 3) {
    auto& [a, b, c] = x;
    return std::tie(a, b, c);
  } else if constexpr (kFields == 4) {
    auto& [a, b, c, d] = x;
    return std::tie(a, b, c, d);
  } else if constexpr (kFields == 5) {
    auto& [a, b, c, d, e] = x;
    return std::tie(a, b, c, d, e);
  } else if constexpr (kFields == 6) {
    auto& [a, b, c, d, e, f] = x;
    return std::tie(a, b, c, d, e, f);
  } else if constexpr (kFields == 7) {
    auto& [a, b, c, d, e, f, g] = x;
    return std::tie(a, b, c, d, e, f, g);
  } else if constexpr (kFields == 8) {
    auto& [a, b, c, d, e, f, g, h] = x;
    return std::tie(a, b, c, d, e, f, g, h);
  } else if constexpr (kFields == 9) {
    auto& [a, b, c, d, e, f, g, h, i] = x;
    return std::tie(a, b, c, d, e, f, g, h, i);
  } else if constexpr (kFields == 10) {
    auto& [a, b, c, d, e, f, g, h, i, j] = x;
    return std::tie(a, b, c, d, e, f, g, h, i, j);
  } else if constexpr (kFields == 11) {
    auto& [a, b, c, d, e, f, g, h, i, j, k] = x;
    return std::tie(a, b, c, d, e, f, g, h, i, j, k);
  } else if constexpr (kFields == 12) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l] = x;
    return std::tie(a, b, c, d, e, f, g, h, i, j, k, l);
  } else if constexpr (kFields == 13) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = x;
    return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m);
  } else {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = x;
    return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n);
  }
}

// Calls visit(leaf) for the argument itself, or each value inside it that is no
// struct, or is a tensor.
template <typename Argument, typename Visit>
void ForEachLeaf(Argument& x, const Visit& visit) {
  using Type = std::remove_const_t<Argument>;
  if constexpr (std::is_same_v<Type, Tensor> || !std::is_class_v<Type>) {
    visit(x);
  } else {
    static_assert(std::is_aggregate_v<Type>, "what could it hold?");
    std::apply([&](auto&... fields) { (ForEachLeaf(fields, visit), ...); },
               FieldsOf(x));
  }
}

// Calls visit(tensor) for the argument itself, or each tensor inside it; a
// constant, an option, a weight or a pointer holds none.
template <typename Argument, typename Visit>
void ForEachTensor(Argument& x, const Visit& visit) {
  ForEachLeaf(x, [&](auto& leaf) {
    if constexpr (std::is_convertible_v<decltype(leaf), const Tensor&>) {
      visit(leaf);
    }
  });
}
template <typename Element, typename Visit>
void ForEachTensor(const absl::Span<const Element>& elements,
                   const Visit& visit) {
  for (const Element& x : elements) ForEachTensor(x, visit);
}
template <typename Visit>
void ForEachTensor(const Weight&, const Visit&) {}

// The same argument with map(tensor) and map(pointer to a weight) in the place
// of each: what an operation is called with instead.
template <typename Argument, typename Map>
Argument Mapped(Argument x, const Map& map) {
  ForEachLeaf(x, [&](auto& leaf) {
    using Leaf = std::remove_reference_t<decltype(leaf)>;
    if constexpr (std::is_same_v<Leaf, Tensor> ||
                  std::is_same_v<Leaf, const Weight*>) {
      leaf = map(leaf);
    }
  });
  return x;
}
template <typename Element, typename Map>
std::vector<Element> Mapped(const absl::Span<const Element>& elements,
                            const Map& map) {
  std::vector<Element> mapped;
  for (const Element& x : elements) mapped.push_back(Mapped(x, map));
  return mapped;
}
template <typename Map>
const Weight& Mapped(const Weight& weight, const Map& map) {
  return *map(&weight);
}

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_ARGUMENT_TENSORS_H_
