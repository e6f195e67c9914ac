// The first half of same_answer.h: an answer without what only changes how it
// looks, whatever it means. Pure; thread-safe.

#ifndef ENVIRONMENTS_PLAIN_ANSWER_H_
#define ENVIRONMENTS_PLAIN_ANSWER_H_

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"

namespace temper {

// Characters of a plain answer that no text has.
constexpr char kDollar = '\x02';  // "\$": opens no formula
// Parts what looks like a number with an exponent and was written in pieces.
constexpr char kJoint = '\x04';

inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }
inline bool IsLetter(char c) {
  return absl::ascii_isalpha(static_cast<unsigned char>(c));
}
// Of words and numbers: blanks between two of these matter.
inline bool IsWord(char c) {
  return IsLetter(c) || IsDigit(c) || c == '.' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// `text` with its signs and blanks in ASCII, without LaTeX's styles and sizes,
// and without what groups thousands, so that any comma left separates. Bytes
// need not be UTF-8.
std::string PlainAnswer(absl::string_view text);

}  // namespace temper

#endif  // ENVIRONMENTS_PLAIN_ANSWER_H_
