// Conversations to learn from (a Demonstration of proto/task.proto each): where
// they come from, in which order they are taken, and whether every one of them
// can be learnt from.

#ifndef LEARNER_TRAIN_DEMONSTRATION_SOURCE_H_
#define LEARNER_TRAIN_DEMONSTRATION_SOURCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/chat/template.h"
#include "kernels/model/config.h"
#include "kernels/model/tokenizer.h"
#include "learner/intake/episode.h"
#include "proto/sft_config.pb.h"
#include "proto/task.pb.h"

namespace temper {

// Constant; thread-safe.
class DemonstrationSource {
 public:
  virtual ~DemonstrationSource() = default;
  // How many there are; 0: a generator's endless stream.
  virtual uint64_t size() const = 0;
  // Whether there are demonstrations of `mix` ("" where a source has one kind
  // only). InvalidArgument names those that there are.
  virtual absl::Status CheckMix(const std::string& mix) const = 0;
  // Demonstration `index`, below size() if that is not 0, of a mix that
  // CheckMix takes. InvalidArgument, begun with its Place, if it is none.
  virtual absl::StatusOr<Demonstration> Get(const std::string& mix,
                                            uint64_t index) const = 0;
  // What to call it in a message: "FILE:LINE".
  virtual std::string Place(uint64_t index) const = 0;
  // SHA-256 (hexadecimal) of the file; "" for a generator, which is what its
  // configuration says.
  virtual std::string digest() const = 0;
};

// The text of a demonstrations.jsonl file, called `path`: one a line; blank
// lines are skipped as in tasks.jsonl (proto/wire/task_file.h). The lines are
// read by Get. InvalidArgument if there is none.
absl::StatusOr<std::unique_ptr<DemonstrationSource>> DemonstrationsOfText(
    const std::string& path, std::string text);

// Which demonstration is taken at which position of training. Of `count`, every
// epoch takes each once, in an order of its own that `seed` draws; an endless
// stream (count 0) is taken as it comes, for it never repeats. Not thread-safe.
class DemonstrationOrder {
 public:
  DemonstrationOrder(uint64_t seed, uint64_t count)
      : seed_(seed), count_(count) {}
  uint64_t At(uint64_t position);

 private:
  const uint64_t seed_;
  const uint64_t count_;
  uint64_t epoch_ = 0;
  std::vector<uint32_t> order_;  // of epoch_; empty before the first call
};

// The demonstration as `stage` shows it, in tokens, with those that an
// assistant wrote marked as sampled. InvalidArgument: the chat format cannot
// render it (the message at fault is named), nothing in it is to be learnt, or
// it is longer than an episode or `model` may be.
absl::StatusOr<Episode> EncodeDemonstration(const ChatTemplate& chat,
                                            const ModelConfig& model,
                                            const SftStage& stage,
                                            Demonstration demonstration);

struct DemonstrationTotals {
  uint64_t demonstrations = 0;
  // Of each once, as the first stage that takes it shows it.
  int64_t tokens = 0;
  int64_t learnt = 0;  // of these: sampled
  int64_t longest = 0;
};

// Checks all that `steps` steps of a resolved configuration may take: of a file
// every demonstration, whether its turn comes or not, by EncodeDemonstration as
// each stage shows it. Where `chat` is null its tokenizer is yet to be learnt
// from them, and nothing that takes tokens is checked. InvalidArgument is a
// FaultList's of what is no good, each begun with its place. `progress` is told
// how many were looked at, one by one; Cancelled once it returns false.
absl::StatusOr<DemonstrationTotals> CheckDemonstrations(
    const SftConfig& config, int64_t steps, const ModelConfig& model,
    const ChatTemplate* chat, const DemonstrationSource& source,
    const std::function<bool(uint64_t checked)>& progress);

// The tokenizer that `vocab_size` ids learn from the first `count`
// demonstrations of each mix, all of which CheckDemonstrations takes; a file
// that has fewer is read again. Cancelled once `go_on`, asked now and then, is
// false.
absl::StatusOr<TokenizerSpec> LearnTokenizer(
    const DemonstrationSource& source, const std::vector<std::string>& mixes,
    uint64_t count, int32_t vocab_size, const std::function<bool()>& go_on);

}  // namespace temper

#endif  // LEARNER_TRAIN_DEMONSTRATION_SOURCE_H_
