// Supervised training from demonstrations, driven by an SftConfig: what `temper
// sft` runs, and what the test that re-makes the shipped checkpoint runs.
//
// The bits of the result depend on the configuration and the demonstrations
// alone: not on threads, tier or time.

#ifndef TOOLS_SFT_H_
#define TOOLS_SFT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/model/tokenizer.h"
#include "kernels/model/weights.h"
#include "kernels/ops/backend.h"
#include "learner/episode.h"
#include "learner/sft_step.h"
#include "proto/sft_config.pb.h"
#include "proto/task.pb.h"

namespace temper {

// Where demonstrations come from. Thread-compatible.
class DemonstrationSource {
 public:
  virtual ~DemonstrationSource() = default;
  // Demonstration `index` of the endless stream `mix` ("" where the source has
  // one only). InvalidArgument names a mix there is not.
  virtual absl::StatusOr<Demonstration> Get(const std::string& mix,
                                            uint64_t index) = 0;
};

// A demonstrations.jsonl file, over and over. Errors name the line.
absl::StatusOr<std::unique_ptr<DemonstrationSource>> OpenDemonstrations(
    const std::string& path);

// Reads proto3 text; `source` (a path) begins each message. InvalidArgument
// names the line, and for an unknown key the nearest one.
absl::StatusOr<SftConfig> ParseSftConfig(const std::string& text,
                                         const std::string& source);

// Fills defaults in and checks every key; messages name key, value and limit.
absl::Status ResolveSftConfig(SftConfig* config);

// Tokens of a demonstration, with those an assistant wrote marked as sampled.
// InvalidArgument if none is.
absl::StatusOr<Episode> EncodeDemonstration(const Tokenizer& tokenizer,
                                            const Demonstration& demonstration);

// The tokenizer that `vocab_size` ids learn from the first `count`
// demonstrations of each mix.
absl::StatusOr<TokenizerSpec> LearnTokenizer(
    DemonstrationSource* source, const std::vector<std::string>& mixes,
    uint64_t count, int32_t vocab_size);

// The learning rate of `step` (from 0) of a stage.
double StageRate(const SftStage& stage, double peak, int64_t step);

struct SftProgress {
  const SftStage* stage = nullptr;
  int64_t stage_step = 0;  // from 1
  int64_t step = 0;        // over all stages, from 1
  int64_t steps_total = 0;
  SftMetrics metrics;
  double seconds = 0;  // of this step
};

// Trains `weights` through all stages. `report` is called after each step; when
// it returns false the run ends there, without an error.
absl::Status RunSft(const SftConfig& config, Backend* backend,
                    const Tokenizer& tokenizer, DemonstrationSource* source,
                    ModelWeights* weights,
                    const std::function<bool(const SftProgress&)>& report);

// SHA-256 (hexadecimal) of the fp32 values: what two makings are compared by.
std::string WeightsDigest(const ModelWeights& weights);

}  // namespace temper

#endif  // TOOLS_SFT_H_
