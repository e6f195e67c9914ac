// Questions that are answered from a corpus, which the model reads through the
// tools of search_tools.h: search, open, find. Nothing of a task is code, so no
// sandbox is needed.
//
// Task.payload_json: {"corpus": "corpora/towns.index", "answer": "Velkor"}
//   corpus  an index that `temper env index` made: a path as the process that
//           plays the episode sees it, from its working directory if it is not
//           absolute. A task file thus fits every machine where a run or host
//           is started beside the same corpora.
//   answer  the right answer, or a list of what counts as such, 64 at most
//   index   the checksum of that index (SearchIndex::checksum), eight digits;
//   of
//           another one the task is told. May be absent; a run writes it into
//           its own tasks (PinIndex), so that it has one index to its end
// Answers are graded as in math, in either case of letters.
//
// Results are a function of the index and the calls: with the same file, the
// same bytes.

#ifndef ENVIRONMENTS_SEARCH_SEARCH_H_
#define ENVIRONMENTS_SEARCH_SEARCH_H_

#include <memory>

#include "environments/environment.h"

namespace temper {

extern const EnvironmentFacts kSearchFacts;

absl::StatusOr<std::unique_ptr<Environment>> NewSearchEnvironment(
    const EnvironmentContext& context);

// Adds "index" to the payload of `task` where it is one of this environment and
// has none. Errors are those of Validate.
absl::Status PinIndex(Task* task);

}  // namespace temper

#endif  // ENVIRONMENTS_SEARCH_SEARCH_H_
