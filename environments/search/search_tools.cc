#include "environments/search/search_tools.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "environments/environment.h"
#include "environments/search/pages.h"
#include "environments/search/words.h"
#include "environments/text.h"
#include "environments/tool_call.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

constexpr size_t kPerPage = 5;
constexpr size_t kHitsMax = 50;
constexpr size_t kTextBytesMax = 1024;  // that is searched for
constexpr size_t kTitleCharacters = 60;
constexpr size_t kExcerptCharacters = 160;
// Looked through for the words of a query, for each hit that is shown.
constexpr size_t kExcerptScanBytes = 64 << 10;

// Short: they stand in every prompt.
constexpr char kSearchJson[] =
    R"({"name": "search", "description": "Finds passages that have words of )"
    R"(the query, best first.", "parameters": {"type": "object", )"
    R"("properties": {"query": {"type": "string"}, "page": {"type": )"
    R"("integer"}}, "required": ["query"]}})";
constexpr char kOpenJson[] =
    R"({"name": "open", "description": "Shows a passage by its number.", )"
    R"("parameters": {"type": "object", "properties": {"passage": {"type": )"
    R"("integer"}, "page": {"type": "integer"}}, "required": ["passage"]}})";
constexpr char kFindJson[] =
    R"({"name": "find", "description": "Finds text in a passage.", )"
    R"("parameters": {"type": "object", "properties": {"passage": {"type": )"
    R"("integer"}, "text": {"type": "string"}, "page": {"type": "integer"}}, )"
    R"("required": ["passage", "text"]}})";

Tool MakeTool(const char* name, const char* function_json) {
  Tool tool;
  tool.set_name(name);
  tool.set_function_json(function_json);
  return tool;
}

// What a call may say; what it does not say stays as it is.
struct Arguments {
  std::string text;  // "query" or "text"
  int64_t passage = 1;
  int64_t page = 1;
};

absl::Status BadArgument(const std::string& what) {
  return absl::InvalidArgumentError(what);
}

// Of "query", "text" and "passage" the `wanted` ones, which must be there, and
// "page".
absl::StatusOr<Arguments> ReadArguments(
    const ToolCall& call, const std::vector<std::string>& wanted) {
  ASSIGN_OR_RETURN(const nlohmann::json object, CallArguments(call));
  for (const std::string& name : wanted) {
    if (object.contains(name)) continue;
    return BadArgument(absl::StrCat("the arguments need \"", name, "\""));
  }
  Arguments arguments;
  for (const auto& [name, value] : object.items()) {
    if (name != "page" && std::count(wanted.begin(), wanted.end(), name) == 0) {
      return BadArgument(absl::StrCat(call.name(), " takes no \"", name,
                                      "\"; it takes ",
                                      absl::StrJoin(wanted, ", "), ", page"));
    }
    const bool number = name == "page" || name == "passage";
    if (number ? !value.is_number_integer() : !value.is_string()) {
      return BadArgument(absl::StrCat("\"", name, "\" must be ",
                                      number ? "an integer" : "a string"));
    }
    if (number) {
      (name == "page" ? arguments.page : arguments.passage) =
          value.get<int64_t>();
      continue;
    }
    arguments.text = value.get<std::string>();
    if (arguments.text.empty() || arguments.text.size() > kTextBytesMax) {
      return BadArgument(absl::StrCat("\"", name, "\" has ",
                                      arguments.text.size(), " bytes; 1 to ",
                                      kTextBytesMax, " are allowed"));
    }
  }
  return arguments;
}

size_t PagesOf(size_t items) {
  return std::max<size_t>(1, (items + kPerPage - 1) / kPerPage);
}

absl::Status CheckPage(int64_t page, size_t pages) {
  if (page >= 1 && static_cast<uint64_t>(page) <= pages) {
    return absl::OkStatus();
  }
  return BadArgument(
      absl::StrCat("there is no page ", page, "; the last page is ", pages));
}

absl::Status CheckPassage(const SearchIndex& index, int64_t passage) {
  if (passage >= 1 && static_cast<uint64_t>(passage) <= index.passages()) {
    return absl::OkStatus();
  }
  return BadArgument(absl::StrCat("there is no passage ", passage,
                                  "; the last passage is ", index.passages()));
}

// "[7] Title", or "[7]" where it has none.
std::string Heading(uint64_t passage, std::string_view title) {
  return absl::StrCat("[", passage, "]", title.empty() ? "" : " ",
                      Excerpt(title, 0, kTitleCharacters));
}

// Where in `text` the rarest of the query's words is that it has.
size_t PlaceOf(const SearchIndex& index, std::string_view query,
               std::string_view text) {
  std::vector<std::pair<uint32_t, std::string>> words;
  for (WordReader reader(query);
       words.size() < kQueryWordsMax && reader.Next();) {
    words.emplace_back(index.PassagesWith(reader.word()), reader.word());
  }
  size_t place = 0;
  uint32_t rarest = UINT32_MAX;
  for (WordReader reader(text.substr(0, kExcerptScanBytes)); reader.Next();) {
    for (const auto& [count, word] : words) {
      if (count < rarest && word == reader.word()) {
        rarest = count;
        place = reader.begin();
      }
    }
  }
  return place;
}

absl::StatusOr<std::string> Search(const SearchIndex& index,
                                   const Arguments& arguments) {
  ASSIGN_OR_RETURN(const std::vector<Hit> hits,
                   index.Search(arguments.text, kHitsMax));
  const size_t pages = PagesOf(hits.size());
  RETURN_IF_ERROR(CheckPage(arguments.page, pages));
  if (hits.empty()) {
    return std::string("no passage has a word of the query");
  }
  std::string content = absl::StrCat("page ", arguments.page, " of ", pages);
  const size_t begin = (static_cast<size_t>(arguments.page) - 1) * kPerPage;
  for (size_t i = begin; i < std::min(begin + kPerPage, hits.size()); ++i) {
    ASSIGN_OR_RETURN(const SearchIndex::Passage passage,
                     index.Get(hits[i].passage));
    absl::StrAppend(
        &content, "\n", Heading(uint64_t{hits[i].passage} + 1, passage.title),
        "\n  ",
        Excerpt(passage.text, PlaceOf(index, arguments.text, passage.text),
                kExcerptCharacters));
  }
  return content;
}

absl::StatusOr<std::string> Open(const SearchIndex& index,
                                 const Arguments& arguments) {
  RETURN_IF_ERROR(CheckPassage(index, arguments.passage));
  ASSIGN_OR_RETURN(const SearchIndex::Passage passage,
                   index.Get(static_cast<uint32_t>(arguments.passage - 1)));
  const std::vector<size_t> bounds = PageBounds(passage.text);
  const size_t pages = bounds.size() - 1;
  RETURN_IF_ERROR(CheckPage(arguments.page, pages));
  const size_t begin = bounds[arguments.page - 1];
  return absl::StrCat(
      Heading(arguments.passage, passage.title), ", page ", arguments.page,
      " of ", pages, "\n",
      std::string(passage.text.substr(begin, bounds[arguments.page] - begin)));
}

std::vector<uint32_t> Lowered(std::string_view text) {
  std::vector<uint32_t> all;
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = NextUtf8(text.data() + at, text.size() - at);
    all.push_back(LowerCase(step.code_point));
    at += step.bytes;
  }
  return all;
}

// Calls `found` with each byte of `text` at which `pattern` stands, whatever
// the case, in their order. By Knuth, Morris and Pratt: whatever both are, a
// character of the text is looked at twice at most.
template <typename Found>
void FindAll(std::string_view text, const std::vector<uint32_t>& pattern,
             const Found& found) {
  const size_t size = pattern.size();
  // Of the first i characters of the pattern, how many of the last are its
  // first ones too, but not all.
  std::vector<size_t> again(size + 1, 0);
  for (size_t i = 1, same = 0; i < size; ++i) {
    while (same > 0 && pattern[i] != pattern[same]) same = again[same];
    if (pattern[i] == pattern[same]) ++same;
    again[i + 1] = same;
  }
  // Where the last characters began, by their number.
  std::vector<size_t> begins(size);
  size_t matched = 0, number = 0;
  for (size_t at = 0; at < text.size(); ++number) {
    const Utf8Step step = NextUtf8(text.data() + at, text.size() - at);
    const uint32_t letter = LowerCase(step.code_point);
    begins[number % size] = at;
    at += step.bytes;
    while (matched > 0 && letter != pattern[matched]) matched = again[matched];
    if (letter == pattern[matched]) ++matched;
    if (matched < size) continue;
    found(begins[(number + 1) % size]);
    matched = again[matched];
  }
}

absl::StatusOr<std::string> Find(const SearchIndex& index,
                                 const Arguments& arguments) {
  RETURN_IF_ERROR(CheckPassage(index, arguments.passage));
  ASSIGN_OR_RETURN(const SearchIndex::Passage passage,
                   index.Get(static_cast<uint32_t>(arguments.passage - 1)));
  const std::string_view text = passage.text;
  size_t count = 0;
  std::vector<size_t> places;  // of the page that is asked for
  FindAll(text, Lowered(arguments.text), [&](size_t place) {
    const auto page = static_cast<int64_t>(count++ / kPerPage) + 1;
    if (page == arguments.page) places.push_back(place);
  });
  const size_t pages = PagesOf(count);
  RETURN_IF_ERROR(CheckPage(arguments.page, pages));
  std::string content = Heading(arguments.passage, passage.title);
  if (count == 0) return content + " does not have this text";
  absl::StrAppend(&content, " has it in ", count,
                  count == 1 ? " place" : " places", ", page ", arguments.page,
                  " of ", pages);
  const std::vector<size_t> bounds = PageBounds(text);
  for (const size_t place : places) {
    const auto page =
        std::upper_bound(bounds.begin(), bounds.end() - 1, place) -
        bounds.begin();
    absl::StrAppend(&content, "\non page ", page, ": ",
                    Excerpt(text, place, kExcerptCharacters));
  }
  return content;
}

}  // namespace

std::vector<Tool> SearchTools() {
  return {MakeTool("search", kSearchJson), MakeTool("open", kOpenJson),
          MakeTool("find", kFindJson)};
}

absl::StatusOr<ToolResult> AnswerSearchCall(const SearchIndex& index,
                                            const ToolCall& call) {
  for (const auto& [name, wanted, run] :
       {std::tuple{"search", std::vector<std::string>{"query"}, &Search},
        std::tuple{"open", std::vector<std::string>{"passage"}, &Open},
        std::tuple{"find", std::vector<std::string>{"passage", "text"},
                   &Find}}) {
    if (call.name() != name) continue;
    const auto arguments = ReadArguments(call, wanted);
    const absl::StatusOr<std::string> content =
        arguments.ok() ? run(index, *arguments) : arguments.status();
    // What the model did wrong; all else is the index.
    if (absl::IsInvalidArgument(content.status())) {
      return FailedCall(std::string(content.status().message()));
    }
    RETURN_IF_ERROR(content.status());
    ToolResult result;
    result.set_outcome(OUTCOME_OK);
    result.set_content(SanitizeText(*content, kToolResultBytesMax));
    return result;
  }
  return UnknownTool(call);
}

}  // namespace temper
