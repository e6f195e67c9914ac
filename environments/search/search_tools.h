// What a model does with a corpus: three tools whose results come in pages of
// some hundred characters.
//
//   search {"query": string}            passages, best first, 5 a page
//   open   {"passage": integer}         a passage's text, 600 characters a page
//   find   {"passage": integer,         where text stands in a passage, in
//           "text": string}             either case, 5 places a page
//
// Each takes "page", an integer from 1 on, too. Passages have the numbers that
// search shows, from 1 on, in the order of the corpus. What a model does wrong
// (a page that is not there) is a result that says what there is.
//
// Thread-safe.

#ifndef ENVIRONMENTS_SEARCH_SEARCH_TOOLS_H_
#define ENVIRONMENTS_SEARCH_SEARCH_TOOLS_H_

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/search/search_index.h"
#include "proto/task.pb.h"

namespace temper {

// In the order and the words that the model sees; a change here is a change of
// every prompt.
std::vector<Tool> SearchTools();

// Of what a call gives, at most.
inline constexpr size_t kSearchResultCharacters = 1300;

// What `call` gives. An error is the index's: it is damaged.
absl::StatusOr<ToolResult> AnswerSearchCall(const SearchIndex& index,
                                            const ToolCall& call);

}  // namespace temper

#endif  // ENVIRONMENTS_SEARCH_SEARCH_TOOLS_H_
