// What LaTeX's commands take as their arguments, as far as answers need it: of
// \frac, \sqrt, ^ and the like, with braces or without them. Functions without
// state; thread-safe. Bytes need not be UTF-8.

#ifndef ENVIRONMENTS_LATEX_ARGUMENT_H_
#define ENVIRONMENTS_LATEX_ARGUMENT_H_

#include <string>

#include "absl/strings/string_view.h"

namespace temper {

// The command of letters that `s` ends with, its backslash off; empty for none.
absl::string_view LastCommand(absl::string_view s);

// Whether what follows `s` is one argument whole, so that its braces matter:
// after ^ and _, a command that takes arguments, or the first of such.
bool TakesArgument(absl::string_view s);

// As TakesArgument, for arguments that may be one number: of fractions, roots
// and boxes, and not of ^ and _.
bool TakesNumber(absl::string_view s);

// `s` with braces around every argument that is a letter, a digit or a command
// without them: \frac12 as \frac{1}{2}, \sqrt x as \sqrt{x}, ^\circ as
// ^{\circ}. A signed number after ^, and any after 10^, is taken whole: nobody
// means 10^{1}2 by 10^12. Linear.
std::string WithBraces(absl::string_view s);

}  // namespace temper

#endif  // ENVIRONMENTS_LATEX_ARGUMENT_H_
