// What `temper sft` begins with: its configuration, the demonstrations, the
// model and the tokenizer that the configuration names. Whatever is wrong with
// them is InvalidArgument or NotFound and says what to name instead.
//
// Functions without state, which talk on stderr.

#ifndef TOOLS_RUN_SFT_INPUTS_H_
#define TOOLS_RUN_SFT_INPUTS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/model_files.h"
#include "kernels/model/tokenizer.h"
#include "kernels/ops/backend.h"
#include "learner/train/demonstration_source.h"
#include "proto/sft_config.pb.h"

namespace temper {

struct SftInputs {
  std::unique_ptr<DemonstrationSource> source;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<MasterWeights> weights;
  ModelFiles files;  // tokenizer.json and what else lies beside the model
};

// The configuration in the file `path`, resolved; its output is `output` if
// that is not empty.
absl::StatusOr<SftConfig> ReadSftConfig(const std::string& path,
                                        const std::string& output);

absl::StatusOr<std::unique_ptr<DemonstrationSource>> OpenSource(
    const SftConfig& config);

// Reads all, makes what the configuration says is to be made, and checks every
// demonstration that `steps` steps may take. `backend` outlives the result.
// Cancelled if a stop signal comes meanwhile.
absl::StatusOr<SftInputs> ReadSftInputs(const SftConfig& config, int64_t steps,
                                        Backend* backend);

}  // namespace temper

#endif  // TOOLS_RUN_SFT_INPUTS_H_
