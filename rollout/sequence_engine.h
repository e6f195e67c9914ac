// What samples tokens for episodes: the Engine, or in tests a script. The agent
// loop knows this interface alone.
//
// Life of a sequence: Open; then, once a turn, Extend with the tokens that the
// model is to read, Step until it comes back as stopped, read its record;
// Close. Not thread-safe.

#ifndef ROLLOUT_SEQUENCE_ENGINE_H_
#define ROLLOUT_SEQUENCE_ENGINE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "rollout/sequence.h"

namespace temper {

enum class StopReason { kStopToken, kLength };

struct StoppedSequence {
  int64_t id = 0;
  StopReason reason = StopReason::kStopToken;
};

class SequenceEngine {
 public:
  virtual ~SequenceEngine() = default;

  // A new, empty, idle sequence; ids rise from 1. InvalidArgument for options
  // out of range; ResourceExhausted if too many are open.
  virtual absl::StatusOr<int64_t> Open(const SequenceOptions& options) = 0;

  // Appends unsampled `tokens` to an idle sequence and sets it running, for
  // `sample_max` tokens at most or until it is as long as a sequence can be.
  // Errors, with nothing changed: InvalidArgument for an id outside the
  // vocabulary, a running sequence, one that would still be empty,
  // sample_max < 1; ResourceExhausted if not even one token could be sampled.
  virtual absl::Status Extend(int64_t id, const std::vector<int32_t>& tokens,
                              int64_t sample_max) = 0;

  // Ends a running sequence's turn before its time: it is idle and its record
  // whole. An error is the device's; then the record's routes are not.
  virtual absl::Status Stop(int64_t id) = 0;

  // Frees the sequence, running or not.
  virtual void Close(int64_t id) = 0;

  // Goes on by one forward and returns who stopped, oldest first. Without
  // running sequences it does nothing. After an error the object may only be
  // destroyed.
  virtual absl::StatusOr<std::vector<StoppedSequence>> Step() = 0;

  // Valid until the next call that changes the sequence; whole while it is
  // idle.
  virtual const SequenceRecord& record(int64_t id) const = 0;

  virtual bool has_running() const = 0;
  virtual const ModelConfig& config() const = 0;
};

}  // namespace temper

#endif  // ROLLOUT_SEQUENCE_ENGINE_H_
