#include "kernels/model/tokenizer_file.h"

#include <algorithm>
#include <array>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "kernels/model/strict_json.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

using Json = nlohmann::json;

absl::Status Bad(const std::string& what) {
  return absl::InvalidArgumentError(what);
}

// GPT-2's printable alphabet: the character that stands for each byte.
const std::array<uint32_t, 256>& ByteAlphabet() {
  static const std::array<uint32_t, 256> alphabet = [] {
    std::array<uint32_t, 256> table;
    uint32_t next = 256;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool prints = (byte >= 33 && byte <= 126) ||
                          (byte >= 161 && byte <= 172) || byte >= 174;
      table[byte] = prints ? byte : next++;
    }
    return table;
  }();
  return alphabet;
}

std::string ToAlphabet(const std::string& bytes) {
  std::string text;
  for (const char byte : bytes) {
    AppendUtf8(ByteAlphabet()[static_cast<uint8_t>(byte)], &text);
  }
  return text;
}

// False if a character of `text` stands for no byte.
bool FromAlphabet(const std::string& text, std::string* bytes) {
  static const absl::flat_hash_map<uint32_t, char> inverse = [] {
    absl::flat_hash_map<uint32_t, char> map;
    for (int byte = 0; byte < 256; ++byte) {
      map[ByteAlphabet()[byte]] = static_cast<char>(byte);
    }
    return map;
  }();
  bytes->clear();
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = NextUtf8(text.data() + at, text.size() - at);
    if (step.state != Utf8State::kValid) return false;
    const auto it = inverse.find(step.code_point);
    if (it == inverse.end()) return false;
    bytes->push_back(it->second);
    at += step.bytes;
  }
  return true;
}

const Json& Field(const Json& object, const char* name) {
  // Null stands for what is absent, as the format's own reader has it.
  static const Json* const missing = new Json(nullptr);
  const auto it = object.find(name);
  return it == object.end() ? *missing : *it;
}

std::string TypeOf(const Json& component) {
  const Json& type = Field(component, "type");
  return type.is_string() ? type.get<std::string>() : "";
}

// Whether `object[name]` is absent, null, false or empty.
bool IsOff(const Json& object, const char* name) {
  const Json& value = Field(object, name);
  return value.is_null() || value == Json(false) || value == Json("");
}

absl::Status ReadSplit(const Json& split, std::vector<SplitRule>* rules) {
  const Json& behavior = Field(split, "behavior");
  // The other behaviours move the cut; a piece cut elsewhere is other tokens,
  // silently.
  if (behavior != Json("Isolated")) {
    return Bad(absl::StrCat("pre_tokenizer Split has behavior ",
                            behavior.dump(), "; only \"Isolated\" is built"));
  }
  if (!IsOff(split, "invert")) {
    return Bad("pre_tokenizer Split with invert true is not built");
  }
  const Json& pattern = Field(split, "pattern");
  if (pattern.is_object() && pattern.size() == 1) {
    const Json& regex = Field(pattern, "Regex");
    const Json& literal = Field(pattern, "String");
    if (regex.is_string()) {
      rules->push_back({regex.get<std::string>(), /*literal=*/false});
      return absl::OkStatus();
    }
    if (literal.is_string()) {
      rules->push_back({literal.get<std::string>(), /*literal=*/true});
      return absl::OkStatus();
    }
  }
  return Bad(
      "pre_tokenizer Split: pattern must be {\"Regex\": ...} or "
      "{\"String\": ...}");
}

// One component; `*bytes` says whether a ByteLevel has been seen.
absl::Status ReadPreTokenizer(const Json& component,
                              std::vector<SplitRule>* rules, bool* bytes) {
  if (!component.is_object()) return Bad("pre_tokenizer must be an object");
  const std::string type = TypeOf(component);
  // After it the text is in the byte alphabet, in which our rules, which see
  // the text itself, would match other places.
  if (*bytes) {
    return Bad(absl::StrCat("pre_tokenizer '", type,
                            "' after ByteLevel, which must be the last"));
  }
  if (type == "Split") return ReadSplit(component, rules);
  // Hugging Face's Digits knows Unicode's numbers, not 0 to 9 alone.
  if (type == "Digits") {
    const bool each = Field(component, "individual_digits") == Json(true);
    rules->push_back({each ? "\\p{N}" : "\\p{N}+", /*literal=*/false});
    return absl::OkStatus();
  }
  if (type == "ByteLevel") {
    *bytes = true;
    if (!IsOff(component, "add_prefix_space")) {
      return Bad(
          "pre_tokenizer ByteLevel with add_prefix_space true is not built");
    }
    // Hugging Face's default is true.
    if (Field(component, "use_regex") != Json(false)) {
      rules->push_back({kGpt2Pattern, /*literal=*/false});
    }
    return absl::OkStatus();
  }
  return Bad(absl::StrCat("pre_tokenizer of type '", type,
                          "' is not built; known: Sequence, Split, Digits, "
                          "ByteLevel"));
}

absl::Status ReadPreTokenizers(const Json& document,
                               std::vector<SplitRule>* rules) {
  const Json& root = Field(document, "pre_tokenizer");
  bool bytes = false;
  if (root.is_object() && TypeOf(root) == "Sequence") {
    const Json& list = Field(root, "pretokenizers");
    if (!list.is_array()) {
      return Bad("pre_tokenizer Sequence has no list pretokenizers");
    }
    for (const Json& component : list) {
      RETURN_IF_ERROR(ReadPreTokenizer(component, rules, &bytes));
    }
  } else {
    RETURN_IF_ERROR(ReadPreTokenizer(root, rules, &bytes));
  }
  if (!bytes) {
    return Bad("pre_tokenizer has no ByteLevel: not a byte-level tokenizer");
  }
  return absl::OkStatus();
}

// The components that must be absent or do nothing.
absl::Status CheckTheRest(const Json& document) {
  const Json& normalizer = Field(document, "normalizer");
  // A normalizer would change text before it is split, so that no decoding
  // gives it back.
  const bool nothing =
      normalizer.is_null() ||
      (normalizer.is_object() && TypeOf(normalizer) == "Sequence" &&
       Field(normalizer, "normalizers") == Json::array());
  if (!nothing) {
    return Bad(absl::StrCat("normalizer of type '", TypeOf(normalizer),
                            "' is not built; it must be null"));
  }
  for (const char* name : {"decoder", "post_processor"}) {
    const Json& component = Field(document, name);
    if (component.is_null()) continue;
    if (!component.is_object() || TypeOf(component) != "ByteLevel") {
      return Bad(absl::StrCat(name, " of type '", TypeOf(component),
                              "' is not built; known: ByteLevel"));
    }
  }
  // Either would change how many tokens a text has.
  for (const char* name : {"truncation", "padding"}) {
    if (!Field(document, name).is_null()) {
      return Bad(absl::StrCat(name, " is set; it must be null"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadId(const std::string& token, const Json& value, int32_t* id) {
  // Comparing as the wide type keeps a huge number from wrapping into range.
  if (!value.is_number_integer() || value < Json(0) ||
      value >= Json(kTokenizerIdsMax)) {
    return Bad(absl::StrCat("token '", token, "' has id ", value.dump(),
                            ", not an integer in [0, ", kTokenizerIdsMax, ")"));
  }
  *id = value.get<int32_t>();
  return absl::OkStatus();
}

absl::Status ReadAdded(const Json& document, TokenizerSpec* spec) {
  const Json& list = Field(document, "added_tokens");
  if (list.is_null()) return absl::OkStatus();
  if (!list.is_array()) return Bad("added_tokens must be a list");
  for (const Json& entry : list) {
    if (!entry.is_object() || !Field(entry, "content").is_string()) {
      return Bad("an entry of added_tokens has no content");
    }
    TokenizerSpec::Added added;
    added.content = Field(entry, "content").get<std::string>();
    RETURN_IF_ERROR(ReadId(added.content, Field(entry, "id"), &added.id));
    // Each widens or narrows what the token matches, blanks beside it included.
    for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
      if (!IsOff(entry, flag)) {
        return Bad(absl::StrCat("added token '", added.content, "' has ", flag,
                                " true, which is not built"));
      }
    }
    added.special = Field(entry, "special") == Json(true);
    spec->added.push_back(added);
  }
  return absl::OkStatus();
}

absl::Status ReadVocab(const Json& model, TokenizerSpec* spec) {
  const Json& vocab = Field(model, "vocab");
  if (!vocab.is_object()) return Bad("model.vocab must be an object");
  absl::flat_hash_map<std::string, int32_t> added;
  for (const auto& token : spec->added) added[token.content] = token.id;
  int32_t highest = -1;
  std::vector<std::pair<std::string, int32_t>> entries;
  for (const auto& [token, value] : vocab.items()) {
    int32_t id = 0;
    RETURN_IF_ERROR(ReadId(token, value, &id));
    // Before the alphabet: an added token is itself, not bytes in disguise.
    const auto special = added.find(token);
    if (special != added.end()) {
      if (special->second == id) continue;  // listed in both places
      return Bad(absl::StrCat("token '", token, "' has id ", id,
                              " in model.vocab and ", special->second,
                              " in added_tokens"));
    }
    std::string bytes;
    if (!FromAlphabet(token, &bytes) || bytes.empty()) {
      return Bad(absl::StrCat("token '", token, "' (id ", id,
                              ") is not in the byte-level alphabet and is no "
                              "added token"));
    }
    highest = std::max(highest, id);
    entries.emplace_back(std::move(bytes), id);
  }
  // Ids need not be dense; holes stay empty and decode to nothing.
  spec->tokens.assign(highest + 1, "");
  for (auto& [bytes, id] : entries) {
    if (!spec->tokens[id].empty()) {
      return Bad(absl::StrCat("token id ", id, " is used twice, by '",
                              ToAlphabet(spec->tokens[id]), "' and '",
                              ToAlphabet(bytes), "'"));
    }
    spec->tokens[id] = std::move(bytes);
  }
  return absl::OkStatus();
}

// A token of several bytes that the merges cannot make from bytes is never
// used: text becomes other tokens than those that the model has learnt. As a
// rule the list was cut. `results` are the tokens that the merges make, or -1.
absl::Status CheckReachable(const TokenizerSpec& spec,
                            const std::vector<int32_t>& results) {
  std::vector<bool> made(spec.tokens.size());
  for (size_t id = 0; id < made.size(); ++id) {
    made[id] = spec.tokens[id].size() <= 1;
  }
  // The parts of a merge are shorter than its result, so that by length each
  // merge comes after those that make its parts, whatever their ranks are.
  std::vector<size_t> by_length;
  for (size_t rank = 0; rank < results.size(); ++rank) {
    if (results[rank] >= 0) by_length.push_back(rank);
  }
  const auto length = [&](size_t rank) {
    return spec.tokens[results[rank]].size();
  };
  std::sort(by_length.begin(), by_length.end(),
            [&](size_t a, size_t b) { return length(a) < length(b); });
  for (const size_t rank : by_length) {
    const auto& [left, right] = spec.merges[rank];
    if (made[left] && made[right]) made[results[rank]] = true;
  }
  const auto first = std::find(made.begin(), made.end(), false);
  if (first == made.end()) return absl::OkStatus();
  const auto longer =
      std::count_if(spec.tokens.begin(), spec.tokens.end(),
                    [](const std::string& bytes) { return bytes.size() > 1; });
  const auto id = first - made.begin();
  return Bad(absl::StrCat(
      std::count(made.begin(), made.end(), false), " of the ", longer,
      " tokens of several bytes in model.vocab are made by none of the ",
      spec.merges.size(), " model.merges, the first '",
      ToAlphabet(spec.tokens[id]), "' (id ", id,
      "); take the whole file as it was published, or those tokens out of "
      "model.vocab, whose ids may have gaps"));
}

absl::Status ReadMerges(const Json& model, TokenizerSpec* spec) {
  const Json& merges = Field(model, "merges");
  if (!merges.is_array()) return Bad("model.merges must be a list");
  absl::flat_hash_map<std::string, int32_t> ids;
  for (size_t id = 0; id < spec->tokens.size(); ++id) {
    if (!spec->tokens[id].empty()) ids[spec->tokens[id]] = static_cast<int>(id);
  }
  std::vector<int32_t> results;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Json& merge = merges[rank];
    std::array<std::string, 2> parts;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
        merge[1].is_string()) {
      parts = {merge[0].get<std::string>(), merge[1].get<std::string>()};
    } else if (merge.is_string()) {
      const std::string text = merge.get<std::string>();
      // The older form. The alphabet has no blank, so the first one parts the
      // two.
      const size_t space = text.find(' ');
      if (space == std::string::npos) {
        return Bad(absl::StrCat("merge ", rank, " '", text, "' has one part"));
      }
      parts = {text.substr(0, space), text.substr(space + 1)};
    } else {
      return Bad(absl::StrCat("merge ", rank, " is not a pair of tokens"));
    }
    std::array<int32_t, 2> pair;
    for (int i = 0; i < 2; ++i) {
      std::string bytes;
      const bool ok = FromAlphabet(parts[i], &bytes);
      const auto it = ids.find(bytes);
      if (!ok || it == ids.end()) {
        return Bad(absl::StrCat("merge ", rank, " names token '", parts[i],
                                "', which is not in model.vocab"));
      }
      pair[i] = it->second;
    }
    spec->merges.emplace_back(pair[0], pair[1]);
    const auto result = ids.find(spec->tokens[pair[0]] + spec->tokens[pair[1]]);
    results.push_back(result == ids.end() ? -1 : result->second);
  }
  // A word that is a token needs no merge then; all others are made of them.
  if (Field(model, "ignore_merges") == Json(true) && !merges.empty()) {
    return absl::OkStatus();
  }
  return CheckReachable(*spec, results);
}

absl::Status CheckModel(const Json& model) {
  if (!model.is_object()) return Bad("model must be an object");
  const Json& type = Field(model, "type");
  if (!type.is_null() && type != Json("BPE")) {
    return Bad(absl::StrCat("model of type '", TypeOf(model),
                            "' is not built; known: BPE"));
  }
  // Each makes an encoding random or lossy, or spells tokens otherwise.
  for (const char* name : {"dropout", "unk_token", "continuing_subword_prefix",
                           "end_of_word_suffix", "fuse_unk", "byte_fallback"}) {
    if (!IsOff(model, name)) {
      return Bad(absl::StrCat("model.", name, " is set to ",
                              Field(model, name).dump(),
                              ", which is not built"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerSpec> ParseTokenizerJson(const std::string& json) {
  if (json.size() > kTokenizerFileBytesMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("tokenizer file of ", json.size(), " bytes, at most ",
                     kTokenizerFileBytesMax));
  }
  ASSIGN_OR_RETURN(const Json document, ParseStrictJson(json, "the file"));
  if (!document.is_object()) return Bad("not a JSON object");
  const Json& model = Field(document, "model");
  TokenizerSpec spec;
  RETURN_IF_ERROR(CheckModel(model));
  RETURN_IF_ERROR(CheckTheRest(document));
  RETURN_IF_ERROR(ReadPreTokenizers(document, &spec.rules));
  // Before the vocabulary, which may list the added tokens as well.
  RETURN_IF_ERROR(ReadAdded(document, &spec));
  RETURN_IF_ERROR(ReadVocab(model, &spec));
  RETURN_IF_ERROR(ReadMerges(model, &spec));
  spec.ignore_merges = Field(model, "ignore_merges") == Json(true);
  return spec;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(
    const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text,
                   ReadFile(path, kTokenizerFileBytesMax));
  const auto named = [&](const absl::Status& status) {
    // Every limit here is on what the file holds.
    return absl::Status(absl::IsResourceExhausted(status)
                            ? absl::StatusCode::kInvalidArgument
                            : status.code(),
                        absl::StrCat(path, ": ", status.message()));
  };
  absl::StatusOr<TokenizerSpec> spec = ParseTokenizerJson(text);
  if (!spec.ok()) return named(spec.status());
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer =
      Tokenizer::Create(*std::move(spec));
  if (!tokenizer.ok()) return named(tokenizer.status());
  return tokenizer;
}

absl::Status CheckVocabulary(const Tokenizer& tokenizer, int64_t vocab_size) {
  if (tokenizer.vocab_size() <= vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the tokenizer has ", tokenizer.vocab_size(),
                   " ids, the model's vocab_size is ", vocab_size));
}

std::string TokenizerJson(const TokenizerSpec& spec) {
  // Keys in the order of Hugging Face's own files: the same spec is the same
  // bytes, and a diff against an original shows what differs.
  using Json = nlohmann::ordered_json;
  Json added = Json::array();
  for (const TokenizerSpec::Added& token : spec.added) {
    added.push_back({{"id", token.id},
                     {"content", token.content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", token.special}});
  }
  Json stages = Json::array();
  for (const SplitRule& rule : spec.rules) {
    stages.push_back(
        {{"type", "Split"},
         {"pattern", {{rule.literal ? "String" : "Regex", rule.pattern}}},
         {"behavior", "Isolated"},
         {"invert", false}});
  }
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           // False: its pattern, if it had one, is among the
                           // Splits before it.
                           {"use_regex", false}};
  stages.push_back(byte_level);
  Json vocab = Json::object();
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.tokens[id].empty()) continue;
    // Not operator[], which looks through all keys before it adds one.
    vocab.get_ref<Json::object_t&>().emplace_back(ToAlphabet(spec.tokens[id]),
                                                  id);
  }
  Json merges = Json::array();
  for (const auto& [left, right] : spec.merges) {
    merges.push_back(
        {ToAlphabet(spec.tokens[left]), ToAlphabet(spec.tokens[right])});
  }
  const Json document = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", stages}}},
      {"post_processor", nullptr},
      {"decoder", byte_level},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"ignore_merges", spec.ignore_merges},
        {"vocab", vocab},
        {"merges", merges}}}};
  return document.dump(/*indent=*/1) + "\n";
}

}  // namespace temper
