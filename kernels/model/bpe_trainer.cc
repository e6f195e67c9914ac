#include "kernels/model/bpe_trainer.h"

#include <map>
#include <memory>
#include <tuple>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "kernels/model/pre_tokenizer.h"

namespace temper {
namespace {

constexpr int32_t kTrainerVocabMax = 65536;
constexpr size_t kTrainerBytesMax = 64 << 20;

// A distinct piece of the texts as its tokens now are.
struct Word {
  std::vector<int32_t> ids;
  int64_t weight;
};

using Pair = std::pair<int32_t, int32_t>;

absl::Status CheckInput(const std::vector<TrainingText>& texts,
                        const BpeTrainerOptions& options) {
  const size_t fixed =
      options.leading_tokens.size() + 256 + options.trailing_tokens.size();
  if (options.vocab_size > kTrainerVocabMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("vocab_size ", options.vocab_size, ", at most ",
                     kTrainerVocabMax, " can be trained here"));
  }
  if (options.vocab_size < 0 ||
      static_cast<size_t>(options.vocab_size) < fixed) {
    return absl::InvalidArgumentError(
        absl::StrCat("vocab_size ", options.vocab_size, " is below the ", fixed,
                     " of bytes and special tokens"));
  }
  size_t bytes = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    bytes += texts[i].text.size();
    if (bytes > kTrainerBytesMax) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "more than ", kTrainerBytesMax, " bytes of text to train on"));
    }
    if (texts[i].weight < 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "text ", i, " has weight ", texts[i].weight, ", at least 1"));
    }
    if (ValidUtf8Prefix(texts[i].text) != texts[i].text.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("text ", i, " is not UTF-8"));
    }
  }
  return absl::OkStatus();
}

// Leading tokens and bytes.
TokenizerSpec BaseSpec(const BpeTrainerOptions& options) {
  TokenizerSpec spec;
  spec.rules = options.rules;
  for (const std::string& token : options.leading_tokens) {
    const int32_t id = static_cast<int32_t>(spec.tokens.size());
    spec.added.push_back({id, token, /*special=*/true});
    spec.tokens.emplace_back();
  }
  for (int byte = 0; byte < 256; ++byte) {
    spec.tokens.emplace_back(1, static_cast<char>(byte));
  }
  return spec;
}

void AddTrailing(const BpeTrainerOptions& options, TokenizerSpec* spec) {
  int32_t id = static_cast<int32_t>(spec->tokens.size());
  for (const std::string& token : options.trailing_tokens) {
    spec->added.push_back({id++, token, /*special=*/true});
  }
}

// The distinct pieces with their weights, each as byte tokens.
absl::StatusOr<std::vector<Word>> CountWords(
    const std::vector<TrainingText>& texts, const Tokenizer& bytes_only,
    const BpeTrainerOptions& options) {
  // Ordered, so that the words, and by them the result, do not depend on the
  // standard library's hash.
  std::map<std::string, int64_t> pieces;
  ASSIGN_OR_RETURN(const auto pre_tokenizer,
                   PreTokenizer::Create(options.rules));
  for (const TrainingText& text : texts) {
    ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                     bytes_only.Encode(text.text, SpecialMatching::kOn));
    std::string plain;
    // One turn beyond the end, which closes the last run of plain text.
    for (size_t i = 0; i <= ids.size(); ++i) {
      if (i < ids.size() && !bytes_only.IsSpecial(ids[i])) {
        plain += *bytes_only.TokenBytes(ids[i]);
        continue;
      }
      ASSIGN_OR_RETURN(const auto split, pre_tokenizer->Split(plain));
      for (const auto& [begin, end] : split) {
        pieces[plain.substr(begin, end - begin)] += text.weight;
      }
      plain.clear();
    }
  }
  const int32_t first_byte =
      static_cast<int32_t>(options.leading_tokens.size());
  std::vector<Word> words;
  for (const auto& [piece, weight] : pieces) {
    Word word = {{}, weight};
    for (const char byte : piece) {
      word.ids.push_back(first_byte + static_cast<uint8_t>(byte));
    }
    words.push_back(std::move(word));
  }
  return words;
}

// The pair to merge next, or weight 0.
Pair BestPair(const std::vector<Word>& words, const TokenizerSpec& spec,
              size_t token_bytes_max, int64_t* best_weight) {
  absl::flat_hash_map<Pair, int64_t> weights;
  for (const Word& word : words) {
    for (size_t i = 0; i + 1 < word.ids.size(); ++i) {
      weights[{word.ids[i], word.ids[i + 1]}] += word.weight;
    }
  }
  Pair best = {0, 0};
  *best_weight = 0;
  // The map's order is arbitrary; what wins is not.
  for (const auto& [pair, weight] : weights) {
    const std::string& left = spec.tokens[pair.first];
    const std::string& right = spec.tokens[pair.second];
    // A whole line that often stands in the texts is a bad token: it is learnt
    // instead of its words.
    if (left.size() + right.size() > token_bytes_max) continue;
    const bool wins =
        weight > *best_weight ||
        (weight == *best_weight &&
         std::tie(left, right) <
             std::tie(spec.tokens[best.first], spec.tokens[best.second]));
    if (wins) {
      best = pair;
      *best_weight = weight;
    }
  }
  return best;
}

void ApplyMerge(Pair pair, int32_t merged, std::vector<Word>* words) {
  for (Word& word : *words) {
    size_t out = 0;
    for (size_t i = 0; i < word.ids.size(); ++i) {
      if (i + 1 < word.ids.size() && word.ids[i] == pair.first &&
          word.ids[i + 1] == pair.second) {
        word.ids[out++] = merged;
        ++i;
      } else {
        word.ids[out++] = word.ids[i];
      }
    }
    // In place: a merge only ever shortens.
    word.ids.resize(out);
  }
}

}  // namespace

absl::StatusOr<TokenizerSpec> TrainBpe(const std::vector<TrainingText>& texts,
                                       const BpeTrainerOptions& options) {
  RETURN_IF_ERROR(CheckInput(texts, options));
  TokenizerSpec spec = BaseSpec(options);
  TokenizerSpec with_trailing = spec;
  AddTrailing(options, &with_trailing);
  ASSIGN_OR_RETURN(const auto bytes_only,
                   Tokenizer::Create(std::move(with_trailing)));
  ASSIGN_OR_RETURN(std::vector<Word> words,
                   CountWords(texts, *bytes_only, options));
  absl::flat_hash_map<std::string, int32_t> ids;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    ids[spec.tokens[id]] = static_cast<int32_t>(id);
  }
  const size_t tokens_max = options.vocab_size - options.trailing_tokens.size();
  while (spec.tokens.size() < tokens_max) {
    int64_t weight = 0;
    const Pair pair = BestPair(words, spec, options.token_bytes_max, &weight);
    // What occurs once is a text's own, not the language's.
    if (weight < 2) break;
    // Two pairs may spell one token ("a"+"bc", "ab"+"c"): it is added once.
    const int32_t next = static_cast<int32_t>(spec.tokens.size());
    std::string bytes = spec.tokens[pair.first] + spec.tokens[pair.second];
    const auto [it, inserted] = ids.try_emplace(bytes, next);
    if (inserted) spec.tokens.push_back(std::move(bytes));
    spec.merges.push_back(pair);
    ApplyMerge(pair, it->second, &words);
    if (options.go_on && !options.go_on()) {
      return absl::CancelledError("stopped while a tokenizer was learnt");
    }
  }
  // After the merges: trailing ids follow the last token, however many were
  // learnt.
  AddTrailing(options, &spec);
  return spec;
}

}  // namespace temper
