// What a run keeps of the model that it began with: everything but the weights
// (config.json, the tokenizer's and the like), in <run_dir>/model. So that the
// model's own directory is wanted for its weights alone, and those only before
// the first checkpoint or where some KL coefficient is above 0.
//
// Functions without state.

#ifndef LEARNER_STORE_RUN_MODEL_H_
#define LEARNER_STORE_RUN_MODEL_H_

#include <string>

#include "absl/status/status.h"

namespace temper {

// Copies what is not weights of the model directory `model` into
// <run_dir>/model. NotFound without a tokenizer.json. On an error what is there
// is not taken for a model's.
absl::Status KeepRunModel(const std::string& run_dir, const std::string& model);

// Where to read them: <run_dir>/model, or `model` itself (the configured one)
// where a run has kept none, as those of the first version.
std::string RunModelDir(const std::string& run_dir, const std::string& model);

}  // namespace temper

#endif  // LEARNER_STORE_RUN_MODEL_H_
