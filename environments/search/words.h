// Text as the words that search knows it by. A word is a longest run of
// letters, digits and the marks on them, as Unicode has these (\p{L}, \p{N},
// \p{M}), in lower case; all else separates. Where a script puts no blanks
// between words (Han, Hiragana, Katakana, Thai, Lao, Khmer, Myanmar), each
// letter with its marks is a word.
//
// Lower case is a character for a character, by PCRE2's tables: STRASSE is not
// straße, a final ς not σ. Nothing is stemmed, composed or decomposed, and no
// word is too common to count. Of a run above kWordBytesMax only the beginning
// is the word, cut between characters.
//
// The tables are read once, at the first use (some 70 ms, 4 MB). Thread-safe;
// one WordReader is used by one thread.

#ifndef ENVIRONMENTS_SEARCH_WORDS_H_
#define ENVIRONMENTS_SEARCH_WORDS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace temper {

inline constexpr size_t kWordBytesMax = 96;

// The words of a text, in order. Bytes that are not UTF-8 separate.
class WordReader {
 public:
  // `text` outlives the reader.
  explicit WordReader(std::string_view text) : text_(text) {}

  // Goes to the next word; false after the last.
  bool Next();

  const std::string& word() const { return word_; }
  // Where the run is that it was made of.
  size_t begin() const { return begin_; }
  size_t end() const { return end_; }

 private:
  const std::string_view text_;
  std::string word_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

uint32_t LowerCase(uint32_t code_point);

// Of UTF-8; other bytes stay as they are.
std::string LowerCase(std::string_view text);

// Which Unicode the tables are of ("14.0.0"): another one may cut other words.
std::string UnicodeVersion();

}  // namespace temper

#endif  // ENVIRONMENTS_SEARCH_WORDS_H_
