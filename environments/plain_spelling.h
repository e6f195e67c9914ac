// The tables of environments/plain_answer.h: spellings of one thing, and what
// only changes how it looks.

#ifndef ENVIRONMENTS_PLAIN_SPELLING_H_
#define ENVIRONMENTS_PLAIN_SPELLING_H_

#include <utility>

#include "absl/strings/string_view.h"

namespace temper {

using Substitute = std::pair<absl::string_view, absl::string_view>;

inline constexpr Substitute kCharacters[] = {
    {"\xE2\x88\x92", "-"},        // minus sign
    {"\xE2\x80\x90", "-"},        // hyphen
    {"\xE2\x80\x91", "-"},        // non-breaking hyphen
    {"\xE2\x80\x93", "-"},        // en dash
    {"\xC2\xB1", "\\pm "},        // plus-minus
    {"\xE2\x88\x93", "\\mp "},    // minus-plus
    {"\xC3\x97", "\\times "},     // multiplication sign
    {"\xC2\xB7", "\\cdot "},      // middle dot
    {"\xE2\x8B\x85", "\\cdot "},  // dot operator
    {"\xE2\x89\xA4", "\\le "},    // at most
    {"\xE2\x89\xA5", "\\ge "},    // at least
    {"\xE2\x89\xA0", "\\ne "},    // unlike
    {"\xE2\x88\xAA", "\\cup "},   // union
    {"\xE2\x88\x85", "\\varnothing "},
    {"\xE2\x88\x9E", "\\infty "},   // infinity
    {"\xCF\x80", "\\pi "},          // pi
    {"\xC2\xB0", "^\\circ "},       // degree
    {"\xE2\x9F\xA8", "\\langle "},  // angle brackets
    {"\xE2\x9F\xA9", "\\rangle "},
    {"\xE2\x80\x8B", ""},      // zero-width space
    {"\xE2\x81\xA0", ""},      // word joiner
    {"\xEF\xBB\xBF", ""},      // byte-order mark
    {"\xC2\xA0", " "},         // no-break space
    {"\xE2\x80\x89", "\x01"},  // thin space
    {"\xE2\x80\xAF", "\x01"},  // narrow no-break space
    {"{,}", "\x03"},
    {",\\!", "\x03"},
    // Vulgar fractions.
    {"\xC2\xBC", "\\frac{1}{4}"},
    {"\xC2\xBD", "\\frac{1}{2}"},
    {"\xC2\xBE", "\\frac{3}{4}"},
    {"\xE2\x85\x93", "\\frac{1}{3}"},
    {"\xE2\x85\x94", "\\frac{2}{3}"},
    {"\xE2\x85\x95", "\\frac{1}{5}"},
    {"\xE2\x85\x96", "\\frac{2}{5}"},
    {"\xE2\x85\x97", "\\frac{3}{5}"},
    {"\xE2\x85\x98", "\\frac{4}{5}"},
    {"\xE2\x85\x99", "\\frac{1}{6}"},
    {"\xE2\x85\x9A", "\\frac{5}{6}"},
    {"\xE2\x85\x9B", "\\frac{1}{8}"},
    {"\xE2\x85\x9C", "\\frac{3}{8}"},
    {"\xE2\x85\x9D", "\\frac{5}{8}"},
    {"\xE2\x85\x9E", "\\frac{7}{8}"},
    // The punctuation of Chinese and Japanese. Its commas group nothing and its
    // full stop is no point, which the blank sees to.
    {"\xEF\xBC\x8C", ", "},
    {"\xE3\x80\x81", ", "},
    {"\xE3\x80\x82", ". "},
    {"\xEF\xBC\x88", "("},
    {"\xEF\xBC\x89", ")"},
    {"\xEF\xBC\xBB", "["},
    {"\xEF\xBC\xBD", "]"},
    {"\xEF\xBD\x9B", "\\{"},
    {"\xEF\xBD\x9D", "\\}"},
    {"\xEF\xBC\x9A", ":"},
    {"\xEF\xBC\x9B", ";"},
    {"\xEF\xBC\x85", "%"},
    {"\xEF\xBC\x8B", "+"},
    {"\xEF\xBC\x8D", "-"},
    {"\xEF\xBC\x8F", "/"},
    {"\xEF\xBC\x9C", "<"},
    {"\xEF\xBC\x9D", "="},
    {"\xEF\xBC\x9E", ">"},
    {"\xE3\x80\x80", " "},
    // Two blanks, which group no thousands.
    {"\t", "  "},
    {"\r", "  "},
    {"\n", "  "},
    {"\\,", "\x01"},
    {"\\;", " "},
    {"\\:", " "},
    {"\\ ", " "},
    {"\\!", ""},
    {"\\$", "\x02"},
    {"\\%", "%"}};

// Digits and signs that are raised, and digits that are lowered.
inline constexpr Substitute kSuperscripts[] = {
    {"\xC2\xB9", "1"},     {"\xC2\xB2", "2"},     {"\xC2\xB3", "3"},
    {"\xE2\x81\xB0", "0"}, {"\xE2\x81\xB4", "4"}, {"\xE2\x81\xB5", "5"},
    {"\xE2\x81\xB6", "6"}, {"\xE2\x81\xB7", "7"}, {"\xE2\x81\xB8", "8"},
    {"\xE2\x81\xB9", "9"}, {"\xE2\x81\xBA", "+"}, {"\xE2\x81\xBB", "-"}};
inline constexpr Substitute kSubscripts[] = {
    {"\xE2\x82\x80", "0"}, {"\xE2\x82\x81", "1"}, {"\xE2\x82\x82", "2"},
    {"\xE2\x82\x83", "3"}, {"\xE2\x82\x84", "4"}, {"\xE2\x82\x85", "5"},
    {"\xE2\x82\x86", "6"}, {"\xE2\x82\x87", "7"}, {"\xE2\x82\x88", "8"},
    {"\xE2\x82\x89", "9"}};

// Commands of letters; those of kLooks lose the braces after them as well.
inline constexpr Substitute kCommands[] = {{"lbrace", "\\{"},
                                           {"rbrace", "\\}"},
                                           {"quad", "  "},
                                           {"qquad", "  "},
                                           {"dfrac", "\\frac"},
                                           {"tfrac", "\\frac"},
                                           {"cfrac", "\\frac"},
                                           {"dbinom", "\\binom"},
                                           {"tbinom", "\\binom"},
                                           {"leq", "\\le"},
                                           {"leqslant", "\\le"},
                                           {"geq", "\\ge"},
                                           {"geqslant", "\\ge"},
                                           {"neq", "\\ne"},
                                           {"lt", "<"},
                                           {"gt", ">"},
                                           {"lvert", "|"},
                                           {"rvert", "|"},
                                           {"vert", "|"},
                                           {"degree", "^\\circ"},
                                           {"rightarrow", "\\to"},
                                           {"emptyset", "\\varnothing"}};
// Sizes, nothing themselves.
inline constexpr absl::string_view kSizes[] = {
    "left", "right", "middle", "big",   "Big",   "bigg",  "Bigg", "bigl",
    "bigr", "Bigl",  "Bigr",   "biggl", "biggr", "Biggl", "Biggr"};
// Styles of all that follows them, within braces as a rule.
inline constexpr absl::string_view kSwitches[] = {
    "displaystyle", "textstyle", "bf", "it", "rm", "sf", "tt", "em"};
inline constexpr absl::string_view kLooks[] = {
    "text",   "textbf",     "textit", "textrm",      "textsf",     "texttt",
    "textup", "textnormal", "emph",   "underline",   "mathrm",     "mathbf",
    "mathit", "mathsf",     "mathtt", "mathnormal",  "boldsymbol", "bm",
    "pmb",    "mbox",       "hbox",   "operatorname"};

}  // namespace temper

#endif  // ENVIRONMENTS_PLAIN_SPELLING_H_
