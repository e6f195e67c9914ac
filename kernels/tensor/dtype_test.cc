#include "kernels/tensor/dtype.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

constexpr DType kInFiles[] = {DType::kF32,    DType::kF64, DType::kBF16,
                              DType::kF8E4M3, DType::kI64, DType::kI32,
                              DType::kU8};

TEST(DTypeTest, ANameInFilesHasTheBytesOfItsType) {
  for (const DType dtype : kInFiles) {
    EXPECT_EQ(FileTypeBytes(FileTypeName(dtype)), DTypeBytes(dtype))
        << DTypeName(dtype);
  }
}

TEST(DTypeTest, AnotherNameIsOfNoBytes) {
  for (const char* name : {"", "f32", "F16", "U16", "C128", "BF16 "}) {
    EXPECT_EQ(FileTypeBytes(name), 0u) << name;
  }
  EXPECT_STREQ(FileTypeName(DType::kU16), "");
}

}  // namespace
}  // namespace temper
