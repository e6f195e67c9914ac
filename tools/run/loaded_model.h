// A Hugging Face directory that the user named: config.json, the weights and
// tokenizer.json. What train, eval, generate and sft begin with. Whatever is
// wrong with it is InvalidArgument or NotFound and says what to name instead.
//
// Functions without state; thread-safe.

#ifndef TOOLS_RUN_LOADED_MODEL_H_
#define TOOLS_RUN_LOADED_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/published_weights.h"
#include "kernels/model/tokenizer.h"
#include "kernels/model/weights_file.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/numerics.h"

namespace temper {

struct LoadedModel {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<PublishedWeights> weights;  // packed for a forward
};

absl::StatusOr<ModelConfig> ReadNamedConfig(const std::string& dir);

// To train. `backend` outlives the result.
absl::StatusOr<std::unique_ptr<MasterWeights>> LoadNamedMasters(
    Backend* backend, const std::string& dir);

// InvalidArgument if the tokenizer has ids that the model lacks, or another id
// for the tokens that begin and end a text: the tokenizer's are what prompts
// begin with and turns end with, config.json's are what other readers go by.
absl::Status CheckTokenizerFits(const Tokenizer& tokenizer,
                                const ModelConfig& config);

// InvalidArgument if `text`, a generation_config.json that lay at `path` and
// goes into what is made, ends an answer by other tokens than the tokenizer's
// end of text. One that is no JSON, or says nothing of it, is left alone.
absl::Status CheckGenerationConfig(const Tokenizer& tokenizer,
                                   const std::string& path,
                                   const std::string& text);

// A tokenizer.json that fits the model.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadNamedTokenizer(
    const std::string& path, const ModelConfig& config);

// The same of a directory that need hold no weights
// (learner/store/run_model.h).
absl::StatusOr<ModelConfig> CheckModelWithoutWeights(const std::string& dir);

struct NamedModel {
  ModelConfig config;
  StoredCodes codes;
};

// All that can be checked without reading the weights' values: before processes
// are started that would fail on it each in its own log. InvalidArgument, too,
// for an index_head_dim that the numerics cannot rotate.
absl::StatusOr<NamedModel> CheckNamedModel(const std::string& dir,
                                           const Numerics& numerics);

// What becomes of codes that a directory holds; "" where there are none.
std::string WordsOf(const StoredCodes& codes, const Numerics& numerics);

// `backend` outlives the result. Says on stderr what becomes of codes.
absl::StatusOr<LoadedModel> LoadModel(Backend* backend,
                                      const Numerics& numerics,
                                      const std::string& dir);

}  // namespace temper

#endif  // TOOLS_RUN_LOADED_MODEL_H_
