// A run's configuration, closed: from a proto3 text file and `key=value`
// settings to a RunConfig in which every key is set and within its limits.
//
//   RunConfig config = ParseConfig(text, path)    file
//   SetConfigValue("learning_rate=1e-4", &config) each --set, in order
//   ResolveConfig(&config)                        defaults, limits, effects
//
// Every error is InvalidArgument, and its message names the key, the value,
// the limit and what to do: a key unknown or misspelt (with the nearest key,
// or ours for the name that other systems use), out of its limits, without
// effect beside the others, or of a feature that this version does not have.
//
// Functions without state; thread-safe.

#ifndef TOOLS_CONFIG_CONFIG_H_
#define TOOLS_CONFIG_CONFIG_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/config.pb.h"

namespace temper {

// Reads proto3 text; `source` (a path) begins each message. Checks names and
// types only.
absl::StatusOr<RunConfig> ParseConfig(const std::string& text,
                                      const std::string& source);

// Sets one leaf by its name alone. `environments=a,b` replaces the list;
// `domain=NAME:KL_COEF` sets that domain's coefficient. On error `config` is
// unchanged.
absl::Status SetConfigValue(const std::string& assignment, RunConfig* config);

// Gives each key that is unset its default and checks the whole. A resolved
// configuration resolves to itself. On error `config` is unspecified.
absl::Status ResolveConfig(RunConfig* config);

// `now` may differ from `was` only in keys that a resume may change. Both are
// resolved.
absl::Status CheckResume(const RunConfig& was, const RunConfig& now);

// Proto3 text that ParseConfig reads back, every set key on its line.
std::string FormatConfig(const RunConfig& config);

}  // namespace temper

#endif  // TOOLS_CONFIG_CONFIG_H_
