#include "proto/wire/packed_array.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(PackedArrayTest, BytesAreLittleEndianAndComeBack) {
  EXPECT_EQ(PackArray<uint16_t>({0x0102, 0x0304}),
            std::string("\x02\x01\x04\x03", 4));
  const std::vector<float> values = {1.5f, -0.0f};
  EXPECT_EQ(UnpackArray<float>(PackArray(values)), values);
  EXPECT_EQ(PackedCount<int32_t>("123456789"), 2u);
  EXPECT_TRUE(UnpackArray<int32_t>("").empty());
}

TEST(PackedArrayTest, AnotherNumberOfElementsIsRefusedAndNothingChanges) {
  std::vector<int32_t> values = {7};
  const absl::Status status =
      UnpackArray("tokens", std::string(7, 'x'), 2, &values);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "tokens has 7 bytes, not 8 (2 elements)");
  EXPECT_THAT(values, testing::ElementsAre(7));
}

TEST(PackedArrayTest, ABitATokenLowestFirst) {
  const std::string bits = PackBits({0, 1, 0, 0, 0, 0, 0, 1, 1, 1}, 9);
  EXPECT_EQ(bits, std::string("\x82\x01", 2));
  EXPECT_TRUE(PackedBit(bits, 1));
  EXPECT_FALSE(PackedBit(bits, 2));
  EXPECT_TRUE(PackedBit(bits, 8));
  EXPECT_FALSE(PackedBit(bits, 9));
  EXPECT_FALSE(PackedBit(bits, 16));
}

}  // namespace
}  // namespace temper
