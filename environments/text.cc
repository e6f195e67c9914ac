#include "environments/text.h"

#include <cstdint>

#include "kernels/base/utf8.h"

namespace temper {
namespace {

bool IsControl(uint32_t c) {
  return (c < 0x20 && c != '\t' && c != '\n') || (c >= 0x7F && c < 0xA0);
}

}  // namespace

std::string SanitizeText(const std::string& bytes, size_t bytes_max) {
  static const std::string kMark = "\n[cut]";
  std::string out;
  size_t keep = 0;  // how much of `out` stands if the mark must follow
  for (size_t i = 0; i < bytes.size();) {
    const Utf8Step step = NextUtf8(bytes.data() + i, bytes.size() - i);
    const bool valid = step.state == Utf8State::kValid;
    std::string piece = valid ? bytes.substr(i, step.bytes) : "?";
    // A terminal obeys them, and no tokenizer has use for them.
    if (valid && IsControl(step.code_point)) piece.clear();
    if (out.size() + piece.size() > bytes_max) {
      out.resize(keep);
      return bytes_max >= kMark.size() ? out + kMark : out;
    }
    out += piece;
    if (out.size() + kMark.size() <= bytes_max) keep = out.size();
    i += valid ? step.bytes : 1;
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
