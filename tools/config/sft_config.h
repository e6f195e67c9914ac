// The configuration of `temper sft`, closed as a run's is: from a proto3 text
// file to an SftConfig in which every key is set and within its limits.
//
// Every error is InvalidArgument, and its message names the key, the value, the
// limit and what to do. Functions without state; thread-safe.

#ifndef TOOLS_CONFIG_SFT_CONFIG_H_
#define TOOLS_CONFIG_SFT_CONFIG_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/sft_config.pb.h"

namespace temper {

// Reads proto3 text; `source` (a path) begins each message. Checks names and
// types only.
absl::StatusOr<SftConfig> ParseSftConfig(const std::string& text,
                                         const std::string& source);

// Gives each key that is unset its default and checks the whole. A resolved
// configuration resolves to itself. On error `config` is unspecified.
absl::Status ResolveSftConfig(SftConfig* config);

// Makes the paths in a resolved configuration absolute: a making goes on from
// any directory. Errors are the working directory's.
absl::Status MakePathsAbsolute(SftConfig* config);

// Whether a making begun with `was` may go on with `now`, both resolved and of
// absolute paths: only what changes no bit of the model may differ.
absl::Status CheckSameMaking(const SftConfig& was, const SftConfig& now);

}  // namespace temper

#endif  // TOOLS_CONFIG_SFT_CONFIG_H_
