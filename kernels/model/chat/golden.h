// Test-only: the golden conversations of tests/golden/chat as protos, and a
// tokenizer with the format's special tokens.

#ifndef KERNELS_MODEL_CHAT_GOLDEN_H_
#define KERNELS_MODEL_CHAT_GOLDEN_H_

#include <memory>
#include <string>
#include <vector>

#include "kernels/model/chat/template.h"
#include "kernels/model/tokenizer.h"
#include "proto/task.pb.h"

namespace temper {

struct RenderCase {
  std::string name;
  std::vector<Message> messages;
  std::vector<Tool> tools;
  ChatOptions options;
  std::string text;
};

struct ParseCase {
  std::string name;
  ChatMode mode;
  std::string text;
  bool error = false;
  Message message;
};

// The cases, from the runfiles. CHECKs that the file is there and whole.
std::vector<RenderCase> RenderCases();
std::vector<ParseCase> ParseCases();

// Trained on the goldens' own texts, 400 ids.
std::unique_ptr<Tokenizer> GoldenTokenizer();

}  // namespace temper

#endif  // KERNELS_MODEL_CHAT_GOLDEN_H_
