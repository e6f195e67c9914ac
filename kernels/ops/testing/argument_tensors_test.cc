#include "kernels/ops/testing/argument_tensors.h"

#include <cstddef>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/ops/attention_arguments.h"
#include "kernels/ops/op_arguments.h"

namespace temper {
namespace {

using ::testing::ElementsAre;

// Where the visited tensors stand in what they belong to, in bytes.
template <typename Argument>
std::vector<size_t> PlacesOf(Argument x) {
  std::vector<size_t> places;
  ForEachTensor(x, [&](Tensor& tensor) {
    places.push_back(static_cast<size_t>(reinterpret_cast<char*>(&tensor) -
                                         reinterpret_cast<char*>(&x)));
  });
  return places;
}

TEST(ArgumentTensorsTest, AllOfAStructAreVisitedInOrderAndNothingElse) {
  using Gate = MoeGateArgs;
  EXPECT_THAT(PlacesOf(Gate()),
              ElementsAre(offsetof(Gate, logits), offsetof(Gate, bias),
                          offsetof(Gate, slot), offsetof(Gate, scores),
                          offsetof(Gate, routes), offsetof(Gate, gates),
                          offsetof(Gate, strip)));
  using Adam = AdamWTensor;
  EXPECT_THAT(PlacesOf(Adam()),
              ElementsAre(offsetof(Adam, grad), offsetof(Adam, p),
                          offsetof(Adam, m), offsetof(Adam, v)));
}

TEST(ArgumentTensorsTest, ThoseOfAStructInsideAreVisitedToo) {
  using Select = IndexerSelectArgs;
  constexpr size_t kMap = offsetof(Select, map);
  EXPECT_THAT(
      PlacesOf(Select()),
      ElementsAre(offsetof(Select, q), offsetof(Select, w),
                  offsetof(Select, keys), kMap + offsetof(KeyMap, sequence),
                  kMap + offsetof(KeyMap, position),
                  kMap + offsetof(KeyMap, blocks), offsetof(Select, selected),
                  offsetof(Select, scores)));
  EXPECT_EQ(PlacesOf(IndexerKlBackwardArgs()).size(), 14u);
}

TEST(ArgumentTensorsTest, ATensorIsItselfAndAConstantHoldsNone) {
  EXPECT_THAT(PlacesOf(Tensor()), ElementsAre(0));
  EXPECT_THAT(PlacesOf(1.5f), ElementsAre());
  EXPECT_THAT(PlacesOf(GateOptions()), ElementsAre());
}

}  // namespace
}  // namespace temper
