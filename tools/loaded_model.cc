#include "tools/loaded_model.h"

#include "kernels/base/status_macros.h"
#include "kernels/model/tokenizer_file.h"

namespace temper {

absl::StatusOr<LoadedModel> LoadModel(Backend* backend,
                                      const std::string& dir) {
  LoadedModel model;
  ASSIGN_OR_RETURN(model.config, ReadModelConfig(dir));
  ASSIGN_OR_RETURN(model.tokenizer, LoadTokenizer(dir + "/tokenizer.json"));
  ASSIGN_OR_RETURN(model.weights,
                   ModelWeights::Load(backend, model.config, dir));
  return model;
}

}  // namespace temper
