// What a checkpoint holds: the model as a Hugging Face directory (fp32, so that
// a resumed run has the same bits), AdamW's moments, the counters. How the
// directory becomes durable is learner/store/checkpoint.h's business.
//
//   model/{config.json,model.safetensors}, and all else that lay beside the
//                             first model (kernels/model/model_files.h)
//   optimizer.safetensors     "moments" [2, elements]
//   state.json                the counters

#ifndef LEARNER_TRAIN_LEARNER_STATE_H_
#define LEARNER_TRAIN_LEARNER_STATE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/master_weights.h"
#include "learner/train/optimizer.h"

namespace temper {

struct LearnerCounters {
  int64_t attempt = 1;  // the attempt that wrote it
  int64_t step = 0;     // the run's steps behind the weights
  uint64_t weight_version = 0;
  int64_t optimizer_steps = 0;  // updates: `minibatches` of them a step
};

// Writes all files into the existing directory `dir`; into its model/ also what
// lies beside the model in `files_dir`. Of what it writes no more than a piece
// is in memory.
absl::Status SaveLearnerState(const std::string& dir,
                              const std::string& files_dir,
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

// Sets the optimizer to what `dir` holds. The model is read from its model/
// by MasterWeights::Load. DataLoss names the file that is damaged; nothing
// changes.
absl::Status LoadOptimizerState(const std::string& dir,
                                const LearnerCounters& counters,
                                Optimizer* optimizer);

}  // namespace temper

#endif  // LEARNER_TRAIN_LEARNER_STATE_H_
