// A Hugging Face directory loaded for sampling: config.json, the weights and
// tokenizer.json. What eval and generate begin with.

#ifndef TOOLS_LOADED_MODEL_H_
#define TOOLS_LOADED_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "kernels/model/tokenizer.h"
#include "kernels/model/weights.h"
#include "kernels/ops/backend.h"

namespace temper {

struct LoadedModel {
  ModelConfig config;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ModelWeights> weights;
};

// `backend` outlives the result. Errors name the file and what is wrong in it.
absl::StatusOr<LoadedModel> LoadModel(Backend* backend, const std::string& dir);

}  // namespace temper

#endif  // TOOLS_LOADED_MODEL_H_
