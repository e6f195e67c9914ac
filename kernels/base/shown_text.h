// Text from outside (task ids, tool output, a model's words, others' error
// messages, file names) as it may be sent to a terminal or into a log: nothing
// in it moves the cursor, changes colours, reorders what is read, or forges a
// line. Escapes are written as in C and JSON:
//
//   \n \t \r   as they are called
//   \x1b       other controls below U+0020
//   \xff       bytes that are no UTF-8
//   \u009b     U+007F to U+009F, marks and overrides of writing direction, line
//              and paragraph separators, the byte-order mark
//
// All else is kept, a backslash too, so an escape can be imitated but never
// acts; JSON text without raw controls stays JSON of the same value.
//
// Functions without state, thread-safe; linear in the text's size. No text is
// refused.

#ifndef KERNELS_BASE_SHOWN_TEXT_H_
#define KERNELS_BASE_SHOWN_TEXT_H_

#include <string>

namespace temper {

// `text` as part of one line.
std::string ShownLine(const std::string& text);

// `text` as lines: \n and \t stay as they are.
std::string ShownLines(const std::string& text);

}  // namespace temper

#endif  // KERNELS_BASE_SHOWN_TEXT_H_
