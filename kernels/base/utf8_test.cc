#include "kernels/base/utf8.h"

#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(Utf8Test, EveryScalarValueGoesThereAndBack) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    AppendUtf8(c, &text);
    const Utf8Step step = NextUtf8(text.data(), text.size());
    ASSERT_EQ(step.state, Utf8State::kValid) << c;
    ASSERT_EQ(step.bytes, text.size()) << c;
    ASSERT_EQ(step.code_point, c);
    for (size_t cut = 1; cut < text.size(); ++cut) {
      ASSERT_EQ(NextUtf8(text.data(), cut).state, Utf8State::kIncomplete) << c;
    }
  }
}

TEST(Utf8Test, RefusesOverlongSurrogateAndOutOfRangeForms) {
  for (const char* bad :
       {"\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80",
        "\xF0\x80\x80\x80", "\xF4\x90\x80\x80", "\xF5", "\x80", "\xFF"}) {
    EXPECT_EQ(ValidUtf8Prefix(std::string("a") + bad), 1u) << bad;
  }
}

TEST(Utf8Test, ReplacesEachMaximalPartOnce) {
  EXPECT_EQ(ReplaceInvalidUtf8("a\xF0\x9F\x98"), "a\xEF\xBF\xBD");
  EXPECT_EQ(ReplaceInvalidUtf8("\xE2\x82z"), "\xEF\xBF\xBDz");
  EXPECT_EQ(ReplaceInvalidUtf8("\xC3\xA9"), "\xC3\xA9");
  EXPECT_EQ(ReplaceInvalidUtf8("\xFF\xFF"), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Utf8Test, ACharacterStartsWhereItsLeadIs) {
  const std::string text = "a\xC3\xA9\xF0\x9F\x98\x80z";
  const size_t starts[] = {0, 1, 1, 3, 3, 3, 3, 7, 8, 8};
  for (size_t at = 0; at < std::size(starts); ++at) {
    EXPECT_EQ(Utf8Start(text, at), starts[at]) << at;
  }
  EXPECT_EQ(Utf8Start("\x80", 0), 0u);
  EXPECT_EQ(Utf8Start("", 0), 0u);
}

TEST(Utf8Test, WhatIsNoCharacterIsAnsweredToo) {
  EXPECT_EQ(NextUtf8("", 0).state, Utf8State::kIncomplete);
  EXPECT_EQ(NextUtf8("", 0).bytes, 0u);
  for (const uint32_t none : {0xD800u, 0xDFFFu, 0x110000u}) {
    std::string text;
    AppendUtf8(none, &text);
    EXPECT_EQ(text, "\xEF\xBF\xBD");
  }
}

}  // namespace
}  // namespace temper
