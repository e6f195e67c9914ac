// What a making of `temper sft` is and how far it is: what its checkpoint holds
// beside the model and the optimizers.
//
//   model/{config.json,model.safetensors,tokenizer.json}   fp32
//   optimizer.safetensors, indexer_optimizer.safetensors
//   learner/train/sft_step.h config.textproto, state.json this
//
// Functions without state; thread-safe.

#ifndef TOOLS_SFT_STATE_H_
#define TOOLS_SFT_STATE_H_

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

// Makes the paths in `config` absolute: it goes on from any directory.
absl::Status MakePathsAbsolute(SftConfig* config);

// Writes both files into the existing directory `dir`.
absl::Status SaveSftState(const std::string& dir, const SftState& state);

// DataLoss names the file that is no such state.
absl::StatusOr<SftState> ReadSftState(const std::string& dir);

// Whether a making begun with `was` may go on with `now`, both as in SftState:
// threads, save_interval and output do not matter, for they do not change a
// bit. InvalidArgument names the first key that differs, with both values.
absl::Status CheckSameMaking(SftConfig was, SftConfig now);

}  // namespace temper

#endif  // TOOLS_SFT_STATE_H_
