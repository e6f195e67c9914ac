// The first half of same_answer.h: an answer without what only changes how it
// looks, whatever it means. Pure; thread-safe.

#ifndef ENVIRONMENTS_PLAIN_ANSWER_H_
#define ENVIRONMENTS_PLAIN_ANSWER_H_

#include <string>

#include "absl/strings/string_view.h"

namespace temper {

// `text` with its signs and blanks in ASCII, without LaTeX's styles and sizes
// and the fence of a block of code, with braces around every argument, and
// without what groups thousands, so that any comma left separates. Bytes need
// not be UTF-8.
std::string PlainAnswer(absl::string_view text);

}  // namespace temper

#endif  // ENVIRONMENTS_PLAIN_ANSWER_H_
