#include "environments/text.h"

#include <cstdint>

namespace temper {
namespace {

// Bytes of the UTF-8 character at `i`, or 0 if there is none.
size_t CharacterBytes(const std::string& s, size_t i) {
  const auto byte = [&s](size_t at) { return static_cast<uint8_t>(s[at]); };
  const uint8_t lead = byte(i);
  if (lead < 0x80) return 1;
  const size_t size = lead >= 0xC2 && lead < 0xE0   ? 2
                      : lead >= 0xE0 && lead < 0xF0 ? 3
                      : lead >= 0xF0 && lead < 0xF5 ? 4
                                                    : 0;
  if (size == 0 || i + size > s.size()) return 0;
  for (size_t k = 1; k < size; ++k) {
    if ((byte(i + k) & 0xC0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what lies above U+10FFFF.
  const uint8_t next = byte(i + 1);
  if (lead == 0xE0 && next < 0xA0) return 0;
  if (lead == 0xED && next >= 0xA0) return 0;
  if (lead == 0xF0 && next < 0x90) return 0;
  if (lead == 0xF4 && next >= 0x90) return 0;
  return size;
}

bool IsControl(const std::string& s, size_t i, size_t size) {
  const uint8_t c = static_cast<uint8_t>(s[i]);
  if (size == 1) return (c < 0x20 && c != '\t' && c != '\n') || c == 0x7F;
  return size == 2 && c == 0xC2 && static_cast<uint8_t>(s[i + 1]) < 0xA0;
}

}  // namespace

std::string SanitizeText(const std::string& bytes, size_t bytes_max) {
  static const std::string kMark = "\n[cut]";
  std::string out;
  size_t keep = 0;  // how much of `out` stands if the mark must follow
  for (size_t i = 0; i < bytes.size();) {
    const size_t size = CharacterBytes(bytes, i);
    std::string piece = size == 0 ? "?" : bytes.substr(i, size);
    // A terminal obeys them, and no tokenizer has use for them.
    if (size > 0 && IsControl(bytes, i, size)) piece.clear();
    if (out.size() + piece.size() > bytes_max) {
      out.resize(keep);
      return bytes_max >= kMark.size() ? out + kMark : out;
    }
    out += piece;
    if (out.size() + kMark.size() <= bytes_max) keep = out.size();
    i += size == 0 ? 1 : size;
  }
  return out;
}

std::string TrimBlanks(const std::string& text) {
  const char* kBlanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

}  // namespace temper
