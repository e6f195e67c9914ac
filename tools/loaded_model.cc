#include "tools/loaded_model.h"

#include <utility>

#include "kernels/base/status_macros.h"
#include "kernels/model/tokenizer_file.h"
#include "tools/next_step.h"

namespace temper {

absl::StatusOr<LoadedModel> LoadModel(Backend* backend,
                                      const std::string& dir) {
  LoadedModel model;
  auto config = ReadModelConfig(dir);
  RETURN_IF_ERROR(IfNotFound(config.status(), kNameAModel));
  model.config = *std::move(config);
  ASSIGN_OR_RETURN(model.tokenizer, LoadTokenizer(dir + "/tokenizer.json"));
  ASSIGN_OR_RETURN(model.weights,
                   ModelWeights::Load(backend, model.config, dir));
  return model;
}

}  // namespace temper
