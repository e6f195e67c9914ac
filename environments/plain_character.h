// The characters that a plain answer (environments/plain_answer.h) is made of.
// Pure; thread-safe.

#ifndef ENVIRONMENTS_PLAIN_CHARACTER_H_
#define ENVIRONMENTS_PLAIN_CHARACTER_H_

#include "absl/strings/ascii.h"

namespace temper {

// Characters of a plain answer that no text has.
constexpr char kThinSpace = '\x01';  // groups thousands, else is a blank
constexpr char kDollar = '\x02';     // "\$": opens no formula
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

inline bool IsPlainBlank(char c) { return c == ' ' || c == kThinSpace; }

}  // namespace temper

#endif  // ENVIRONMENTS_PLAIN_CHARACTER_H_
