#include "tools/loaded_model.h"

#include <algorithm>
#include <cstdint>

#include "kernels/base/status_macros.h"
#include "kernels/model/tokenizer_file.h"

namespace temper {
namespace {

constexpr int64_t kSamplesMax = 256;
constexpr int64_t kSharedPages = 64;  // preambles and prompts

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(Backend* backend,
                                      const std::string& dir) {
  LoadedModel model;
  ASSIGN_OR_RETURN(model.config, ReadModelConfig(dir));
  ASSIGN_OR_RETURN(model.tokenizer, LoadTokenizer(dir + "/tokenizer.json"));
  ASSIGN_OR_RETURN(model.weights,
                   ModelWeights::Load(backend, model.config, dir));
  return model;
}

EngineOptions SizeEngine(int64_t samples, int64_t max_tokens) {
  const int64_t at_once = std::clamp<int64_t>(samples, 1, kSamplesMax);
  const int64_t pages_each = 2 * max_tokens / kPageTokens + 2;
  EngineOptions options;
  options.sequences_max = at_once;
  options.sample_rows_max = at_once;
  options.pages = static_cast<int32_t>(at_once * pages_each + kSharedPages);
  return options;
}

}  // namespace temper
