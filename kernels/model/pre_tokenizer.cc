// Which of PCRE2's three interfaces its header declares: bytes.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "kernels/model/pre_tokenizer.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "pcre2.h"

namespace temper {

const char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

constexpr size_t kRulesMax = 16;
constexpr size_t kPatternBytesMax = 4096;
// Of one match, which starts at one place: far above what a split pattern
// needs on a megabyte-long run, far below what a hostile one would take.
constexpr uint32_t kMatchStepsMax = 20'000'000;
constexpr uint32_t kMatchDepthMax = 10'000'000;
constexpr uint32_t kMatchHeapKibMax = 256 * 1024;

std::string PcreMessage(int code) {
  PCRE2_UCHAR buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof(buffer)) < 0) {
    return absl::StrCat("PCRE2 error ", code);
  }
  return reinterpret_cast<const char*>(buffer);
}

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

}  // namespace

struct PreTokenizer::Compiled {
  ~Compiled() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
};

PreTokenizer::PreTokenizer(std::vector<SplitRule> rules)
    : rules_(std::move(rules)) {}

PreTokenizer::~PreTokenizer() = default;

absl::StatusOr<std::unique_ptr<PreTokenizer>> PreTokenizer::Create(
    const std::vector<SplitRule>& rules) {
  if (rules.size() > kRulesMax) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "pre_tokenizer has ", rules.size(), " rules, at most ", kRulesMax));
  }
  std::unique_ptr<PreTokenizer> result(new PreTokenizer(rules));
  for (const SplitRule& rule : rules) {
    if (rule.pattern.empty() || rule.pattern.size() > kPatternBytesMax) {
      return absl::ResourceExhaustedError(
          absl::StrCat("split pattern of ", rule.pattern.size(),
                       " bytes; 1 to ", kPatternBytesMax, " are allowed"));
    }
    auto compiled = std::make_unique<Compiled>();
    int error = 0;
    PCRE2_SIZE offset = 0;
    const uint32_t options =
        PCRE2_UTF |
        // UCP, so that \p and \s mean Unicode's; \C could cut a character in
        // two.
        (rule.literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C);
    compiled->code =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rule.pattern.data()),
                      rule.pattern.size(), options, &error, &offset, nullptr);
    if (compiled->code == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("split pattern '", rule.pattern, "' at byte ", offset,
                       ": ", PcreMessage(error)));
    }
    uint32_t match_empty = 0;
    pcre2_pattern_info(compiled->code, PCRE2_INFO_MATCHEMPTY, &match_empty);
    // A match of nothing would have to be stepped over, and PCRE2 and Hugging
    // Face's engine do not agree how.
    if (match_empty != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "split pattern '", rule.pattern,
          "' can match the empty string; every match must take a character"));
    }
    compiled->context = pcre2_match_context_create(nullptr);
    CHECK(compiled->context != nullptr);
    // A tokenizer.json is a stranger's file: its pattern may be made to run for
    // ever.
    pcre2_set_match_limit(compiled->context, kMatchStepsMax);
    pcre2_set_depth_limit(compiled->context, kMatchDepthMax);
    pcre2_set_heap_limit(compiled->context, kMatchHeapKibMax);
    result->compiled_.push_back(std::move(compiled));
  }
  return result;
}

absl::Status PreTokenizer::SplitPiece(size_t rule, const std::string& text,
                                      Piece piece,
                                      std::vector<Piece>* out) const {
  const Compiled& compiled = *compiled_[rule];
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> data(
      pcre2_match_data_create_from_pattern(compiled.code, nullptr));
  CHECK(data != nullptr);
  // The piece is a string of its own: look-around stops at its ends.
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data() + piece.first);
  const size_t size = piece.second - piece.first;
  size_t at = 0;
  while (at < size) {
    const int count =
        pcre2_match(compiled.code, subject, size, at, PCRE2_NO_UTF_CHECK,
                    data.get(), compiled.context);
    if (count == PCRE2_ERROR_NOMATCH) break;
    if (count < 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("split pattern '", rules_[rule].pattern, "' on ", size,
                       " bytes of text: ", PcreMessage(count)));
    }
    const PCRE2_SIZE* ovector = pcre2_get_ovector_pointer(data.get());
    const size_t begin = ovector[0], end = ovector[1];
    // \K and look-behind can report a match that begins before the search did.
    if (begin < at || end <= begin || end > size) {
      return absl::InvalidArgumentError(
          absl::StrCat("split pattern '", rules_[rule].pattern,
                       "' reports a match that does not move forward"));
    }
    if (begin > at) out->push_back({piece.first + at, piece.first + begin});
    out->push_back({piece.first + begin, piece.first + end});
    at = end;
  }
  if (at < size) out->push_back({piece.first + at, piece.second});
  return absl::OkStatus();
}

absl::StatusOr<std::vector<PreTokenizer::Piece>> PreTokenizer::Split(
    const std::string& text) const {
  std::vector<Piece> pieces;
  if (text.empty()) return pieces;
  pieces.push_back({0, text.size()});
  for (size_t rule = 0; rule < rules_.size(); ++rule) {
    // Rule after rule: each sees the pieces of the one before as whole texts.
    std::vector<Piece> finer;
    for (const Piece& piece : pieces) {
      RETURN_IF_ERROR(SplitPiece(rule, text, piece, &finer));
    }
    pieces = std::move(finer);
  }
  return pieces;
}

}  // namespace temper
