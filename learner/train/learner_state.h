// What a checkpoint holds: the model as a Hugging Face directory in the type
// that the configuration asks for, the fp32 masters, so that a resumed run has
// the same bits, AdamW's moments, the counters. How the directory becomes
// durable is learner/store/checkpoint.h's business.
//
//   model/{config.json,model.safetensors}, and all else that lay beside the
//                             first model (kernels/model/model_files.h)
//   masters.safetensors       "masters" [elements]; not beside a model/ in F32,
//                             as that of the first versions always is
//   optimizer.safetensors     "moments" [2, elements]
//   state.json                the counters

#ifndef LEARNER_TRAIN_LEARNER_STATE_H_
#define LEARNER_TRAIN_LEARNER_STATE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "kernels/model/master_weights.h"
#include "kernels/ops/backend.h"
#include "learner/train/optimizer.h"

namespace temper {

struct LearnerCounters {
  int64_t attempt = 1;  // the attempt that wrote it
  int64_t step = 0;     // the run's steps behind the weights
  uint64_t weight_version = 0;
  int64_t optimizer_steps = 0;  // updates: `minibatches` of them a step
};

// Writes all files into the existing directory `dir`; into its model/, which is
// in `dtype` (WriteWeights has them, and its errors), also what lies beside the
// model in `files_dir`. Of what it writes no more than a piece is in memory.
absl::Status SaveLearnerState(const std::string& dir,
                              const std::string& files_dir,
                              const std::string& dtype,
                              const MasterWeights& weights,
                              const Optimizer& optimizer,
                              const LearnerCounters& counters);

// AdamW's moments as the file `path`.
absl::Status SaveMoments(const std::string& path, const Optimizer& optimizer);

// Sets the optimizer to them, after `steps` updates. DataLoss names a file that
// is damaged; nothing changes.
absl::Status LoadMoments(const std::string& path, int64_t steps,
                         Optimizer* optimizer);

// The counters of the checkpoint in `dir`. DataLoss names state.json and a
// counter that is missing or no number; NotFound where there is no such file.
absl::StatusOr<LearnerCounters> ReadLearnerCounters(const std::string& dir);

// The masters of the checkpoint in `dir`, with what its model/ carries. Errors
// are MasterWeights::Load's; DataLoss names a file that is damaged.
absl::StatusOr<std::unique_ptr<MasterWeights>> LoadMasters(
    const std::string& dir, const ModelConfig& config, Backend* backend);

// Sets the optimizer to what `dir` holds. DataLoss names the file that is
// damaged; nothing changes.
absl::Status LoadOptimizerState(const std::string& dir,
                                const LearnerCounters& counters,
                                Optimizer* optimizer);

}  // namespace temper

#endif  // LEARNER_TRAIN_LEARNER_STATE_H_
