// Cuts text to what a model is shown at a time: pages of a passage, excerpts
// around a place, results. Lengths are in characters, for a prompt is short and
// a character of any script is about a token of a small vocabulary.
//
// Texts are UTF-8. Pure functions; thread-safe.

#ifndef ENVIRONMENTS_SEARCH_PAGES_H_
#define ENVIRONMENTS_SEARCH_PAGES_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace temper {

inline constexpr size_t kPageCharacters = 600;

// Where the pages of `text` begin, ascending from 0, and text.size() at the
// end; of an empty text one empty page. A page has at most kPageCharacters and
// ends behind a blank, where its last third has one.
std::vector<size_t> PageBounds(std::string_view text);

// At most `characters` of `text` in one line, from some words before the byte
// `at` on; "..." stands where it was cut.
std::string Excerpt(std::string_view text, size_t at, size_t characters);

}  // namespace temper

#endif  // ENVIRONMENTS_SEARCH_PAGES_H_
