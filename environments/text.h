// Makes bytes of unknown origin fit to be a tool result: valid UTF-8, bounded,
// no control characters that a tokenizer or a terminal would act on.

#ifndef ENVIRONMENTS_TEXT_H_
#define ENVIRONMENTS_TEXT_H_

#include <cstddef>
#include <string>

namespace temper {

// Returns `bytes` with each invalid UTF-8 byte replaced by '?', control
// characters other than tab and newline removed, and at most `bytes_max` bytes
// kept (cut between characters, then marked "[cut]" on a line of its own).
std::string SanitizeText(const std::string& bytes, size_t bytes_max);

// Returns `text` without blanks (space, tab, CR, LF) at both ends.
std::string TrimBlanks(const std::string& text);

}  // namespace temper

#endif  // ENVIRONMENTS_TEXT_H_
