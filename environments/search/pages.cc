#include "environments/search/pages.h"

#include <algorithm>

#include "kernels/base/utf8.h"

namespace temper {
namespace {

// What an excerpt has before the place it is for.
constexpr size_t kBeforeCharacters = 40;

bool IsBlank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// The byte behind `characters` of them from `at` on.
size_t Forward(std::string_view text, size_t at, size_t characters) {
  for (; characters > 0 && at < text.size(); --characters) {
    at += NextUtf8(text.data() + at, text.size() - at).bytes;
  }
  return at;
}

// The byte where `characters` of them before `at` begin.
size_t Backward(std::string_view text, size_t at, size_t characters) {
  for (; characters > 0 && at > 0; --characters) {
    --at;
    while (at > 0 && (text[at] & 0xC0) == 0x80) --at;
  }
  return at;
}

}  // namespace

std::vector<size_t> PageBounds(std::string_view text) {
  std::vector<size_t> bounds = {0};
  do {
    const size_t begin = bounds.back();
    const size_t end = Forward(text, begin, kPageCharacters);
    const size_t least = Forward(text, begin, kPageCharacters * 2 / 3);
    size_t cut = end;
    while (cut < text.size() && cut > least && !IsBlank(text[cut - 1])) --cut;
    bounds.push_back(cut > least ? cut : end);
  } while (bounds.back() < text.size());
  return bounds;
}

std::string Excerpt(std::string_view text, size_t at, size_t characters) {
  size_t begin = Backward(text, at, kBeforeCharacters);
  // At the beginning of a word, if one begins before the place.
  if (begin > 0) {
    size_t word = begin;
    while (word < at && !IsBlank(text[word])) ++word;
    if (word < at) begin = word + 1;
  }
  size_t end = Forward(text, begin, characters);
  if (end < text.size()) {
    size_t cut = end;
    while (cut > at && !IsBlank(text[cut])) --cut;
    if (cut > at) end = cut;
  }
  std::string line = begin > 0 ? "..." : "";
  for (const char c : text.substr(begin, end - begin)) {
    if (!IsBlank(c)) {
      line += c;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  if (end < text.size()) line += "...";
  return line;
}

}  // namespace temper
