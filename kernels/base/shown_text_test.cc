#include "kernels/base/shown_text.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/log.h"
#include "kernels/base/utf8.h"

namespace temper {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(ShownTextTest, PlainTextOfEveryScriptIsKept) {
  const std::string text =
      "a\\b \u00e9\u00df \u6c49\u5b57 \u0627\u0644 \u05e9\u05dc "
      "\U0001f468\u200d\U0001f469 \ufffd~";
  EXPECT_EQ(ShownLine(text), text);
  EXPECT_EQ(ShownLines(text), text);
}

TEST(ShownTextTest, WhatActsOnATerminalIsWrittenOut) {
  EXPECT_EQ(ShownLine("\x1b[31mred\x07\x08"), "\\x1b[31mred\\x07\\x08");
  EXPECT_EQ(ShownLine(std::string("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(ShownLine("a\x7f\u009b2J\u0085"), "a\\u007f\\u009b2J\\u0085");
  EXPECT_EQ(ShownLine("\u202egnp\u202c \u2066\u2069 \u200f\u061c"),
            "\\u202egnp\\u202c \\u2066\\u2069 \\u200f\\u061c");
  EXPECT_EQ(ShownLine("\ufeff\u2028\u2029"), "\\ufeff\\u2028\\u2029");
}

TEST(ShownTextTest, BytesThatAreNoUtf8AreWrittenOut) {
  // A lone C1 byte, an overlong escape, a surrogate, a character cut short.
  EXPECT_EQ(ShownLine("\x9b"), "\\x9b");
  EXPECT_EQ(ShownLine("\xc0\x9b"), "\\xc0\\x9b");
  EXPECT_EQ(ShownLine("\xed\xa0\x80"), "\\xed\\xa0\\x80");
  EXPECT_EQ(ShownLine("\xe6\xb1"), "\\xe6\\xb1");
}

TEST(ShownTextTest, NewlinesStayOnlyWhereLinesAreMeant) {
  EXPECT_EQ(ShownLine("a\n\tb\r\n"), "a\\n\\tb\\r\\n");
  EXPECT_EQ(ShownLines("a\n\tb\r\n"), "a\n\tb\\r\n");
}

TEST(ShownTextTest, WhateverComesInWhatGoesOutIsUtf8WithoutControls) {
  for (uint32_t c = 0; c < 0x3000; ++c) {
    std::string text;
    AppendUtf8(c, &text);
    for (const std::string& in :
         {text, std::string(1, static_cast<char>(c & 0xFF))}) {
      const std::string out = ShownLine(in);
      EXPECT_EQ(ValidUtf8Prefix(out), out.size());
      for (const char byte : out) EXPECT_GE(static_cast<uint8_t>(byte), 0x20);
      EXPECT_EQ(ShownLine(out), out);
    }
  }
}

TEST(ShownTextTest, ALogRecordIsOneLineWhateverItSays) {
  testing::internal::CaptureStderr();
  LOG(INFO) << "task a\nE 00:00:00.000 forged.cc:1 \x1b[2J";
  const std::string line = testing::internal::GetCapturedStderr();
  EXPECT_THAT(line,
              HasSubstr("task a\\nE 00:00:00.000 forged.cc:1 \\x1b[2J\n"));
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_THAT(line, Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace temper
