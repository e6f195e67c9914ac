#include "kernels/base/shown_text.h"

#include <cstdint>
#include <cstdio>

#include "kernels/base/utf8.h"

namespace temper {
namespace {

// Above ASCII. Direction marks and overrides are those of Unicode's
// Bidi_Control.
bool Acts(uint32_t c) {
  return (c >= 0x80 && c <= 0x9F) || c == 0x061C || c == 0x200E ||
         c == 0x200F || (c >= 0x2028 && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

void AppendHex(const char* format, uint32_t value, std::string* out) {
  // For "\u%04x", four digits: all that acts lies in Unicode's first plane.
  char escape[8];
  snprintf(escape, sizeof escape, format, value);
  *out += escape;
}

void AppendAscii(char c, bool keep_lines, std::string* out) {
  if ((c == '\n' || c == '\t') && keep_lines) {
    *out += c;
  } else if (c == '\n') {
    *out += "\\n";
  } else if (c == '\t') {
    *out += "\\t";
    // A carriage return would let a line overwrite what stands before it.
  } else if (c == '\r') {
    *out += "\\r";
  } else if (c == 0x7F) {
    *out += "\\u007f";
  } else if (c < 0x20) {
    AppendHex("\\x%02x", static_cast<uint32_t>(c), out);
  } else {
    *out += c;
  }
}

std::string Shown(const std::string& text, bool keep_lines) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = NextUtf8(text.data() + at, text.size() - at);
    if (step.state != Utf8State::kValid) {
      for (size_t i = 0; i < step.bytes; ++i) {
        // The bytes themselves: the reader of an error must find them in the
        // file.
        AppendHex("\\x%02x", static_cast<uint8_t>(text[at + i]), &out);
      }
    } else if (step.bytes == 1) {
      AppendAscii(text[at], keep_lines, &out);
    } else if (Acts(step.code_point)) {
      AppendHex("\\u%04x", step.code_point, &out);
    } else {
      out.append(text, at, step.bytes);
    }
    at += step.bytes;
  }
  return out;
}

}  // namespace

std::string ShownLine(const std::string& text) {
  return Shown(text, /*keep_lines=*/false);
}

std::string ShownLines(const std::string& text) {
  return Shown(text, /*keep_lines=*/true);
}

}  // namespace temper
