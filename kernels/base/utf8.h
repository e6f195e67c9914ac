// UTF-8, checked: well-formed means RFC 3629 (no surrogates, no overlong
// forms, nothing above U+10FFFF). Pure functions, defined for all arguments:
// log.h stands on them, so they cannot CHECK.

#ifndef KERNELS_BASE_UTF8_H_
#define KERNELS_BASE_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace temper {

enum class Utf8State {
  kValid,       // `bytes` is the length of one character
  kInvalid,     // `bytes` (>= 1) can never begin a character
  kIncomplete,  // all that is left may begin a character; `bytes` is its length
};

struct Utf8Step {
  Utf8State state;
  size_t bytes;
  uint32_t code_point;  // of a valid character, else 0
};

// Looks at the character that begins at data[0]; of no bytes, kIncomplete.
Utf8Step NextUtf8(const char* data, size_t size);

// The offset of the first byte that is not well-formed, or text.size().
size_t ValidUtf8Prefix(const std::string& text);

// Where the character of well-formed `text` begins that the byte at `at` is of;
// text.size() from there on. A text cut there stays well-formed.
size_t Utf8Start(const std::string& text, size_t at);

// Appends `code_point` to `out`; U+FFFD for what is no Unicode scalar value.
void AppendUtf8(uint32_t code_point, std::string* out);

// `text` with every maximal ill-formed part replaced by U+FFFD.
std::string ReplaceInvalidUtf8(const std::string& text);

}  // namespace temper

#endif  // KERNELS_BASE_UTF8_H_
