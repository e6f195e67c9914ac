#include "kernels/base/byte_order_mark.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(ByteOrderMarkTest, EveryMarkIsRefusedByItsBytesAndOnlyAtTheBeginning) {
  const auto message = [](const std::string& text) {
    return std::string(RefuseByteOrderMark(text, "a.json").message());
  };
  EXPECT_THAT(
      message("\xEF\xBB\xBF{}"),
      testing::StartsWith("a.json begins with a byte-order mark (EF BB BF)"));
  EXPECT_THAT(message(std::string("\xFF\xFE{\0", 4)),
              testing::HasSubstr("UTF-16"));
  EXPECT_THAT(message(std::string("\xFE\xFF\0{", 4)),
              testing::HasSubstr("UTF-16"));
  for (const char* text : {"", "{}", "\xEF\xBB", "{\xEF\xBB\xBF}"}) {
    EXPECT_EQ(message(text), "") << text;
  }
}

}  // namespace
}  // namespace temper
