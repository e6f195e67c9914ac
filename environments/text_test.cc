#include "environments/text.h"

#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(TextTest, ValidTextIsUnchanged) {
  const std::string text = "a\tb\n\xC3\xA9 \xE4\xBD\xA0 \xF0\x9F\x98\x80";
  EXPECT_EQ(SanitizeText(text, 1000), text);
}

TEST(TextTest, InvalidBytesAndControlsGo) {
  EXPECT_EQ(SanitizeText("a\xFF\x1B[2Jb\r\x00"
                         "c\x7F",
                         1000),
            "a?[2Jb");
  EXPECT_EQ(SanitizeText(std::string("x\0y", 3), 1000), "xy");
  EXPECT_EQ(SanitizeText("\xC0\x80\xED\xA0\x80\xF4\x90\x80\x80", 1000),
            "?????????");
  EXPECT_EQ(SanitizeText("\xC2\x9Bz", 1000), "z");  // the one-byte CSI
  EXPECT_EQ(SanitizeText("\xE4\xBD", 1000), "??");
}

TEST(TextTest, LongTextIsCutBetweenCharactersAndMarked) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "\xE4\xBD\xA0";
  const std::string cut = SanitizeText(text, 32);
  EXPECT_LE(cut.size(), 32u);
  EXPECT_EQ(cut, text.substr(0, 24) + "\n[cut]");
  EXPECT_EQ(SanitizeText(text, 300), text);
  EXPECT_LE(SanitizeText(text, 4).size(), 4u);
}

TEST(TextTest, TrimBlanksTakesBothEnds) {
  EXPECT_EQ(TrimBlanks(" \t\r\na b\n"), "a b");
  EXPECT_EQ(TrimBlanks(" \n"), "");
}

}  // namespace
}  // namespace temper
