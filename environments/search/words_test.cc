#include "environments/search/words.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> WordsOf(const std::string& text) {
  std::vector<std::string> words;
  for (WordReader reader(text); reader.Next();) words.push_back(reader.word());
  return words;
}

TEST(WordsTest, ARunOfLettersAndDigitsIsOneWordInLowerCase) {
  EXPECT_THAT(WordsOf("The B-52's  3.5km, don't!"),
              ElementsAre("the", "b", "52", "s", "3", "5km", "don", "t"));
  EXPECT_THAT(WordsOf(""), IsEmpty());
  EXPECT_THAT(WordsOf(" -- \n"), IsEmpty());
}

TEST(WordsTest, LettersAreUnicodes) {
  EXPECT_THAT(WordsOf("Straße ÉCOLE Ωμέγα ДОМ Ⅷ"),
              ElementsAre("straße", "école", "ωμέγα", "дом", "Ⅷ"));
  // A letter with its mark as two characters is another word than the letter.
  EXPECT_THAT(WordsOf("e\u0301A ea"), ElementsAre("e\u0301a", "ea"));
  EXPECT_THAT(WordsOf("שלום עולם"), ElementsAre("שלום", "עולם"));
  // Lower case may take more bytes than upper case.
  EXPECT_THAT(WordsOf("Ⱥ K"), ElementsAre("ⱥ", "k"));
}

TEST(WordsTest, WithoutBlanksBetweenWordsEachLetterIsOne) {
  EXPECT_THAT(
      WordsOf("東京タワー2号 abc東"),
      ElementsAre("東", "京", "タ", "ワ", "ー", "2", "号", "abc", "東"));
  EXPECT_THAT(WordsOf("ที่นี่"), ElementsAre("ที่", "นี่"));
  EXPECT_THAT(WordsOf("한국어 하나"), ElementsAre("한국어", "하나"));
}

TEST(WordsTest, BytesThatAreNoUtf8Separate) {
  EXPECT_THAT(WordsOf("ab\xff"
                      "cd\xe4\xb8"),
              ElementsAre("ab", "cd"));
}

TEST(WordsTest, OfALongRunTheBeginningCounts) {
  const std::string run(5000, 'x');
  const auto words = WordsOf(run + " y");
  ASSERT_EQ(words.size(), 2u);
  EXPECT_EQ(words[0], std::string(kWordBytesMax - 3, 'x'));
  std::string wide;
  for (int i = 0; i < 100; ++i) wide += "é";
  EXPECT_EQ(WordsOf(wide)[0], wide.substr(0, kWordBytesMax - 2));
}

TEST(WordsTest, AWordSaysWhereItStood) {
  WordReader reader("¡Hé, wo");
  ASSERT_TRUE(reader.Next());
  EXPECT_EQ(reader.begin(), 2u);
  EXPECT_EQ(reader.end(), 5u);
  ASSERT_TRUE(reader.Next());
  EXPECT_EQ(reader.begin(), 7u);
  EXPECT_FALSE(reader.Next());
  EXPECT_FALSE(reader.Next());
}

TEST(WordsTest, TextIsLoweredCharacterByCharacter) {
  EXPECT_EQ(LowerCase("ÄB\xff 1Ǆ"), "äb\xff 1ǆ");
  EXPECT_EQ(LowerCase(0x110000), 0x110000u);
}

}  // namespace
}  // namespace temper
