// The rule that checks a final answer, shared by the environments that ask for
// one: which part of a message is the answer. When it is right is
// environments/same_answer.h's: forms of one value are equal, nothing is
// evaluated.

#ifndef ENVIRONMENTS_ANSWER_H_
#define ENVIRONMENTS_ANSWER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "proto/task.pb.h"

namespace temper {

// The answer in an assistant's final message, blanks trimmed, empty for none:
//   - where there is a \boxed{...} or \fbox{...}, what stands in the last one.
//     If that one is not closed there is no answer, whereas one around it that
//     is not is none: \boxed{1 \boxed{2} holds 2. A box inside another is part
//     of it. Braces balance but for those escaped, as LaTeX reads them.
//     Before a digit, a sign or a point the braces may be left out: \boxed 42
//     holds all to the formula's end (a $, \), \] or }) or the line's, so
//     \boxed 7 \cdot 2 is not 7. Without either it is no box: \boxed x, or
//     \boxed at the end.
//   - else, if the last line holds "####", what follows it, as GSM8K writes;
//   - else the whole content: an answer within a sentence does not count.
// Time and memory are linear in the content.
std::string ExtractAnswer(const std::string& content);

// The "answer" of `payload`, the task's as ReadPayload gives it, which must be
// a string that is an answer to itself (not empty, not \! alone) of at most
// 4096 bytes. Of a whole solution its answer counts: what its last box holds,
// as MATH writes them, or what follows its last "####", as GSM8K does.
// PayloadFault otherwise.
absl::StatusOr<std::string> TruthOf(const Task& task,
                                    const nlohmann::ordered_json& payload);

// The verdict of an episode before its answer is looked at: verified, and not
// correct. Where there is an answer *content points to it, in the transcript;
// else it stays as it is, and the verdict says why: only an episode that ended
// by itself (not TRUNCATED, not MODEL_ERROR) with an assistant message that
// calls no tool has one. InvalidArgument if `outcome` is not graded.
absl::StatusOr<Verdict> VerdictBeforeAnswer(
    Outcome outcome, const std::vector<Message>& transcript,
    const std::string** content);

// Grades the transcript's last message against `truth`: only an answer of at
// most 4096 bytes can be correct. Fails as VerdictBeforeAnswer.
absl::StatusOr<Verdict> GradeAnswer(Outcome outcome,
                                    const std::vector<Message>& transcript,
                                    const std::string& truth);

}  // namespace temper

#endif  // ENVIRONMENTS_ANSWER_H_
