// What a making of `temper sft` is and how far it is: what its checkpoint holds
// beside the model and the optimizers.
//
//   model/{config.json,model.safetensors,tokenizer.json}   fp32
//   optimizer.safetensors, indexer_optimizer.safetensors
//   learner/train/sft_step.h config.textproto, state.json this
//
// Functions without state; thread-safe.

#ifndef LEARNER_TRAIN_SFT_STATE_H_
#define LEARNER_TRAIN_SFT_STATE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "learner/train/sft_step.h"
#include "proto/sft_config.pb.h"

namespace temper {

struct SftState {
  // As it began.
  SftConfig config;                   // resolved; every path absolute
  int64_t steps = 0;                  // to make
  std::string revision;               // "" if not given
  std::string demonstrations_sha256;  // DemonstrationSource::digest
  // How far it is.
  int64_t step = 0;
  SftUpdates updates;
  std::string digest_early;  // of the weights, for the manifest; "" before
};

// Writes both files into the existing directory `dir`.
absl::Status SaveSftState(const std::string& dir, const SftState& state);

// DataLoss names the file that is no such state.
absl::StatusOr<SftState> ReadSftState(const std::string& dir);

}  // namespace temper

#endif  // LEARNER_TRAIN_SFT_STATE_H_
