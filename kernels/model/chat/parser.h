// Reads what the assistant wrote, strictly: a message in the V3.2 format or an
// error, never a repair. On ids a marker counts only as its special token; the
// same characters typed out are plain text. On text every marker counts.
//
// The grammar, in thinking mode (in chat mode it begins at `content`):
//   reasoning </think> content [calls] EOS
//   calls  = "\n\n<DSML function_calls>\n" invoke* "</DSML function_calls>"
//   invoke = "<DSML invoke name=\"N\">\n" param* "</DSML invoke>\n"
//   param  = "<DSML parameter name=\"K\" string=\"true|false\">V</DSML
//   parameter>\n"
// (without the blank after DSML). An invoke without parameters may hold one
// empty line, which is how the format prints it. K's of one invoke differ; a V
// with string="false" is JSON. Reasoning and content hold no special token.

#ifndef KERNELS_MODEL_CHAT_PARSER_H_
#define KERNELS_MODEL_CHAT_PARSER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "kernels/model/chat/template.h"
#include "kernels/model/tokenizer.h"
#include "proto/task.pb.h"

namespace temper {

// Both parsers return an assistant message, or InvalidArgument that says what
// was expected and where (a byte offset; a special token counts as one byte):
// the model's error, OUTCOME_MODEL_ERROR. `arguments_json` lists the parameters
// in their order. Text that is not UTF-8 is an error too.

// `text` is what follows the assistant's marker and its <think> or </think>.
absl::StatusOr<Message> ParseChatText(const std::string& text, ChatMode mode);

// Thread-safe.
class ChatParser {
 public:
  // InvalidArgument, naming it, if a marker is not an added token of
  // `tokenizer`, which must outlive the result.
  static absl::StatusOr<std::unique_ptr<ChatParser>> Create(
      const Tokenizer* tokenizer);

  // `ids` are one turn's sampled tokens, EOS included. An id without a token is
  // an error as any other.
  absl::StatusOr<Message> Parse(const std::vector<int32_t>& ids,
                                ChatMode mode) const;

 private:
  explicit ChatParser(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}

  const Tokenizer* const tokenizer_;
  absl::flat_hash_map<int32_t, char16_t> symbols_;  // of the markers
};

}  // namespace temper

#endif  // KERNELS_MODEL_CHAT_PARSER_H_
