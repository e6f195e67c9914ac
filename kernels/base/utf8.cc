#include "kernels/base/utf8.h"

namespace temper {

Utf8Step NextUtf8(const char* data, size_t size) {
  if (size == 0) return {Utf8State::kIncomplete, 0, 0};
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(data[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {Utf8State::kValid, 1, lead};
  size_t length = 0;
  // Bounds of the second byte: they exclude overlong forms and surrogates.
  uint8_t low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {Utf8State::kInvalid, 1, 0};
  }
  // A lead of `length` bytes has length + 1 bits of its own on top.
  uint32_t code_point = lead & (0xFFu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    // A cut character is no fault yet: text comes in pieces, a token at a time.
    if (i == size) return {Utf8State::kIncomplete, size, 0};
    // The wrong byte is not taken: it may begin the next character.
    if (byte(i) < low || byte(i) > high) return {Utf8State::kInvalid, i, 0};
    code_point = code_point << 6 | (byte(i) & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8State::kValid, length, code_point};
}

size_t ValidUtf8Prefix(const std::string& text) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Step step = NextUtf8(text.data() + at, text.size() - at);
    if (step.state != Utf8State::kValid) break;
    at += step.bytes;
  }
  return at;
}

size_t Utf8Start(const std::string& text, size_t at) {
  if (at >= text.size()) return text.size();
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

void AppendUtf8(uint32_t code_point, std::string* out) {
  const bool scalar =
      code_point < 0xD800 || (code_point > 0xDFFF && code_point < 0x110000);
  // Surrogates and what lies beyond Unicode would make the output invalid
  // itself.
  if (!scalar) code_point = 0xFFFD;
  const auto put = [&](uint32_t byte) {
    out->push_back(static_cast<char>(byte));
  };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

std::string ReplaceInvalidUtf8(const std::string& text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = NextUtf8(text.data() + at, text.size() - at);
    if (step.state == Utf8State::kValid) {
      out.append(text, at, step.bytes);
    } else {
      // One for each maximal part, as Unicode recommends and Python does: texts
      // decoded there and here stay equal.
      AppendUtf8(0xFFFD, &out);
    }
    at += step.bytes;
  }
  return out;
}

}  // namespace temper
