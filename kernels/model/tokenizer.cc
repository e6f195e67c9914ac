#include "kernels/model/tokenizer.h"

#include <algorithm>
#include <queue>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"

namespace temper {
namespace {

// Through uint32_t: a negative right id would fill the upper half.
uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 |
         static_cast<uint32_t>(right);
}

absl::Status NoToken(int32_t id) {
  return absl::InvalidArgumentError(
      absl::StrCat("token id ", id, " is not in the tokenizer's vocabulary"));
}

absl::Status TooManyBytes(int32_t id, size_t bytes) {
  return absl::ResourceExhaustedError(absl::StrCat(
      "token id ", id, " has ", bytes, " bytes, at most ", kTokenBytesMax));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(
    TokenizerSpec spec) {
  if (spec.tokens.size() > static_cast<size_t>(kTokenizerIdsMax) ||
      spec.merges.size() > static_cast<size_t>(kTokenizerIdsMax) ||
      spec.added.size() > static_cast<size_t>(kTokenizerIdsMax)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("tokenizer of ", spec.tokens.size(), " tokens, ",
                     spec.merges.size(), " merges, ", spec.added.size(),
                     " added tokens; at most ", kTokenizerIdsMax, " each"));
  }
  std::unique_ptr<Tokenizer> result(new Tokenizer());
  result->spec_ = std::move(spec);
  // In this order: specials take ids that tokens left free, and merges are
  // checked against both.
  RETURN_IF_ERROR(result->AddTokens());
  RETURN_IF_ERROR(result->AddSpecials());
  RETURN_IF_ERROR(result->AddMerges());
  ASSIGN_OR_RETURN(result->pre_tokenizer_,
                   PreTokenizer::Create(result->spec_.rules));
  return result;
}

absl::Status Tokenizer::AddTokens() {
  byte_ids_.fill(-1);
  bytes_ = spec_.tokens;
  for (size_t i = 0; i < bytes_.size(); ++i) {
    const std::string& bytes = bytes_[i];
    const int32_t id = static_cast<int32_t>(i);
    // A hole, which an added token may fill.
    if (bytes.empty()) continue;
    if (bytes.size() > kTokenBytesMax) return TooManyBytes(id, bytes.size());
    // Else a text would have two encodings, and a record of ids no one text.
    const auto [it, inserted] = ids_.try_emplace(bytes, id);
    if (!inserted) {
      return absl::InvalidArgumentError(absl::StrCat(
          "token ids ", it->second, " and ", id, " have the same bytes"));
    }
    if (bytes.size() == 1) byte_ids_[static_cast<uint8_t>(bytes[0])] = id;
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (byte_ids_[byte] < 0) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "the vocabulary has no token for byte 0x%02X; a byte-level BPE "
          "vocabulary needs all 256",
          byte));
    }
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::AddSpecials() {
  for (size_t i = 0; i < spec_.added.size(); ++i) {
    const TokenizerSpec::Added& added = spec_.added[i];
    if (added.id < 0 || added.id >= kTokenizerIdsMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("added token '", added.content, "' has id ", added.id,
                       ", outside [0, ", kTokenizerIdsMax, ")"));
    }
    if (added.content.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("added token ", added.id, " is empty"));
    }
    if (added.content.size() > kTokenBytesMax) {
      return TooManyBytes(added.id, added.content.size());
    }
    // Specials are looked for in valid text: one that is not could never match.
    if (ValidUtf8Prefix(added.content) != added.content.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("added token ", added.id, " is not UTF-8"));
    }
    const size_t id = static_cast<size_t>(added.id);
    if (id < bytes_.size() && !bytes_[id].empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "token id ", added.id, " is used twice: by added token '",
          added.content, "' and by '", bytes_[id], "'"));
    }
    if (!specials_.try_emplace(added.content, added.id).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("added token '", added.content, "' is there twice"));
    }
    if (id >= bytes_.size()) bytes_.resize(id + 1);
    bytes_[id] = added.content;
    specials_by_byte_[static_cast<uint8_t>(added.content[0])].push_back(i);
  }
  // The longest first: of two that begin alike the first found is taken.
  for (std::vector<size_t>& list : specials_by_byte_) {
    std::sort(list.begin(), list.end(), [&](size_t a, size_t b) {
      const std::string& left = spec_.added[a].content;
      const std::string& right = spec_.added[b].content;
      return std::tuple(right.size(), left) < std::tuple(left.size(), right);
    });
  }
  is_special_.assign(bytes_.size(), false);
  for (const auto& added : spec_.added) is_special_[added.id] = true;
  return absl::OkStatus();
}

absl::Status Tokenizer::AddMerges() {
  for (size_t rank = 0; rank < spec_.merges.size(); ++rank) {
    const auto [left, right] = spec_.merges[rank];
    for (const int32_t part : {left, right}) {
      // A special inside a merge could be made from plain text: forged.
      if (TokenBytes(part) == nullptr || IsSpecial(part)) {
        return absl::InvalidArgumentError(
            absl::StrCat("merge ", rank, " names token id ", part,
                         ", which is not in the vocabulary"));
      }
    }
    const auto merged = ids_.find(bytes_[left] + bytes_[right]);
    if (merged == ids_.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "merge ", rank, " of '", bytes_[left], "' and '", bytes_[right],
          "': the result is not in the vocabulary"));
    }
    const Merge merge = {static_cast<int32_t>(rank), merged->second};
    if (!merges_.try_emplace(PairKey(left, right), merge).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("merge ", rank, " of '", bytes_[left], "' and '",
                       bytes_[right], "' is there twice"));
    }
  }
  return absl::OkStatus();
}

const Tokenizer::Merge* Tokenizer::FindMerge(int32_t left,
                                             int32_t right) const {
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

// Always the lowest rank, leftmost first: a heap over a linked list of
// symbols, entries that no longer hold are skipped when they come up.
void Tokenizer::EncodePiece(const std::string& piece,
                            std::vector<int32_t>* ids) const {
  // Llama 3's rule: a piece that is a token is taken whole, even where no
  // merges lead to it.
  if (spec_.ignore_merges) {
    const auto whole = ids_.find(piece);
    if (whole != ids_.end()) {
      ids->push_back(whole->second);
      return;
    }
  }
  struct Symbol {
    int32_t id;  // -1 once merged into the symbol before it
    int32_t previous;
    int32_t next;
  };
  const int32_t size = static_cast<int32_t>(piece.size());
  std::vector<Symbol> symbols(piece.size());
  for (int32_t i = 0; i < size; ++i) {
    symbols[i] = {byte_ids_[static_cast<uint8_t>(piece[i])], i - 1,
                  i + 1 < size ? i + 1 : -1};
  }
  // (rank, position of the left symbol, left id, right id)
  using Entry = std::tuple<int32_t, int32_t, int32_t, int32_t>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<Entry>> heap;
  const auto consider = [&](int32_t left) {
    if (left < 0 || symbols[left].next < 0) return;
    const int32_t right = symbols[left].next;
    const Merge* merge = FindMerge(symbols[left].id, symbols[right].id);
    if (merge == nullptr) return;
    heap.emplace(merge->rank, left, symbols[left].id, symbols[right].id);
  };
  for (int32_t i = 0; i + 1 < size; ++i) consider(i);
  while (!heap.empty()) {
    const auto [rank, left, left_id, right_id] = heap.top();
    heap.pop();
    Symbol& symbol = symbols[left];
    // A merge on either side may have made the entry stale. Where both ids
    // still match, the pair that it names is there all the same.
    if (symbol.id != left_id || symbol.next < 0) continue;
    Symbol& right = symbols[symbol.next];
    if (right.id != right_id) continue;
    symbol.id = FindMerge(left_id, right_id)->id;
    symbol.next = right.next;
    if (right.next >= 0) symbols[right.next].previous = left;
    // Its id matches no entry any more, so those that name it are passed over.
    right.id = -1;
    // Only pairs with the new symbol are new.
    consider(symbol.previous);
    consider(left);
  }
  for (const Symbol& symbol : symbols) {
    if (symbol.id >= 0) ids->push_back(symbol.id);
  }
}

absl::Status Tokenizer::EncodePlain(const std::string& text,
                                    std::vector<int32_t>* ids) const {
  ASSIGN_OR_RETURN(const std::vector<PreTokenizer::Piece> pieces,
                   pre_tokenizer_->Split(text));
  for (const auto& [begin, end] : pieces) {
    EncodePiece(text.substr(begin, end - begin), ids);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(
    const std::string& text, SpecialMatching matching) const {
  if (text.size() > kEncodeBytesMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("text of ", text.size(), " bytes to tokenise, at most ",
                     kEncodeBytesMax));
  }
  // The pre-tokenizer's matcher is told not to check, and would read past the
  // end of a cut character.
  const size_t valid = ValidUtf8Prefix(text);
  if (valid != text.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("text to tokenise is not UTF-8 at byte ", valid));
  }
  std::vector<int32_t> ids;
  size_t plain = 0;  // start of the text not yet encoded
  if (matching == SpecialMatching::kOn) {
    for (size_t at = 0; at < text.size();) {
      const TokenizerSpec::Added* found = nullptr;
      for (size_t i : specials_by_byte_[static_cast<uint8_t>(text[at])]) {
        const TokenizerSpec::Added& added = spec_.added[i];
        if (text.compare(at, added.content.size(), added.content) == 0) {
          found = &added;
          break;
        }
      }
      // By single bytes: no special begins inside a character, since UTF-8's
      // continuation bytes begin nothing.
      if (found == nullptr) {
        ++at;
        continue;
      }
      // A special ends the text before it: no merge goes across.
      RETURN_IF_ERROR(EncodePlain(text.substr(plain, at - plain), &ids));
      ids.push_back(found->id);
      at += found->content.size();
      plain = at;
    }
  }
  RETURN_IF_ERROR(EncodePlain(text.substr(plain), &ids));
  return ids;
}

absl::StatusOr<std::string> Tokenizer::DecodeBytes(
    const std::vector<int32_t>& ids) const {
  std::string text;
  for (const int32_t id : ids) {
    const std::string* bytes = TokenBytes(id);
    if (bytes == nullptr) return NoToken(id);
    text += *bytes;
  }
  return text;
}

absl::StatusOr<std::string> Tokenizer::Decode(
    const std::vector<int32_t>& ids) const {
  ASSIGN_OR_RETURN(const std::string bytes, DecodeBytes(ids));
  return ReplaceInvalidUtf8(bytes);
}

const std::string* Tokenizer::TokenBytes(int32_t id) const {
  if (id < 0 || id >= vocab_size() || bytes_[id].empty()) return nullptr;
  return &bytes_[id];
}

std::optional<int32_t> Tokenizer::SpecialId(const std::string& content) const {
  const auto it = specials_.find(content);
  if (it == specials_.end()) return std::nullopt;
  return it->second;
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && id < vocab_size() && is_special_[id];
}

absl::StatusOr<std::string> IncrementalDecoder::Add(int32_t id) {
  const std::string* bytes = tokenizer_->TokenBytes(id);
  if (bytes == nullptr) return NoToken(id);
  pending_ += *bytes;
  // A cut-off character can only be at the end, and is held back.
  size_t at = 0;
  while (at < pending_.size()) {
    const Utf8Step step = NextUtf8(pending_.data() + at, pending_.size() - at);
    if (step.state == Utf8State::kIncomplete) break;
    at += step.bytes;
  }
  const std::string certain = ReplaceInvalidUtf8(pending_.substr(0, at));
  pending_.erase(0, at);
  return certain;
}

std::string IncrementalDecoder::Finish() {
  const std::string rest = ReplaceInvalidUtf8(pending_);
  pending_.clear();
  return rest;
}

}  // namespace temper
