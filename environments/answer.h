// The rule that checks a final answer, shared by the environments that ask for
// one. Text is compared with text; nothing is evaluated.

#ifndef ENVIRONMENTS_ANSWER_H_
#define ENVIRONMENTS_ANSWER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/task.pb.h"

namespace temper {

// The answer in an assistant's final message: what stands in the last
// \boxed{...} with balanced braces, else the whole content, blanks trimmed.
std::string ExtractAnswer(const std::string& content);

// The form in which answers are compared. A number (sign, digits, thousands
// commas in their places, decimals, or an integer fraction; a '$' before and a
// '.' after are dropped) becomes a reduced fraction, so "1,000.50" and "2001/2"
// are one answer; "-0" is "0". Anything else is itself with blanks trimmed.
// Numbers of more than 18 digits are compared as decimal strings.
std::string CanonicalAnswer(const std::string& answer);

// The "answer" of a task's payload_json, which must be a non-empty string. For
// GSM8K's own answers what follows "####" counts. InvalidArgument otherwise.
absl::StatusOr<std::string> TruthOf(const Task& task);

// Grades the transcript's last message against `truth`. Only an episode that
// ended by itself (not TRUNCATED, not MODEL_ERROR) with an assistant message
// that calls no tool can be correct. InvalidArgument if `outcome` is not
// graded.
absl::StatusOr<Verdict> GradeAnswer(Outcome outcome,
                                    const std::vector<Message>& transcript,
                                    const std::string& truth);

}  // namespace temper

#endif  // ENVIRONMENTS_ANSWER_H_
