// Checkpoints as directories that are whole or not there:
//
//   <directory>/step_N/          what the writer wrote, and
//   <directory>/step_N/MANIFEST  size and CRC-32C of each file, last
//
// Save lets the caller fill a temporary directory, fsyncs every file and
// directory in it, adds the manifest, renames it into place and fsyncs the
// parent. Where step_N is taken (by a damaged checkpoint, or one of an attempt
// that no longer counts) the name is step_N.2, step_N.3, ... . Checkpoints are
// ordered by a number that counts up with every save.
//
// What a crash leaves (.tmp-*, .old-*) is cleared by the next Save. A damaged
// checkpoint is left where it is and reported. One process at a time (the
// holder of run.db's writer lock); not thread-safe.

#ifndef LEARNER_STORE_CHECKPOINT_H_
#define LEARNER_STORE_CHECKPOINT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace temper {

struct CheckpointOptions {
  std::string directory;  // made if missing
  int keep = 2;           // good ones; at least 2
};

struct LoadedCheckpoint {
  std::string directory;
  int64_t step = 0;
  std::vector<std::string> skipped;  // a sentence for each newer one
};

class CheckpointStore {
 public:
  // Writes a checkpoint's files below the directory that it is given.
  using Writer = std::function<absl::Status(const std::string& directory)>;

  // InvalidArgument if fewer than 2 are to be kept.
  static absl::StatusOr<std::unique_ptr<CheckpointStore>> Create(
      const CheckpointOptions& options);

  // Returns the new checkpoint's directory, once it removed those that are
  // older than the newest `keep` that verify: as LoadNewest would find them, so
  // that a damaged one never takes the place of a good one. On failure, the
  // writer's included, the checkpoints are as they were.
  absl::StatusOr<std::string> Save(int64_t step, const Writer& write);

  // The newest checkpoint of which every file has the manifest's size and
  // checksum, and which `accept` (if given) takes by its step and directory.
  // NotFound, with what was skipped, where there is none. Skipped is what is
  // damaged, or refused with DataLoss, NotFound, FailedPrecondition or
  // InvalidArgument; any other error (the disk's, no memory) is returned.
  absl::StatusOr<LoadedCheckpoint> LoadNewest(
      const std::function<absl::Status(
          int64_t step, const std::string& directory)>& accept = nullptr);

  // The newest save in `directory` whose manifest is whole, whose files nobody
  // looked at; "" if there is none. Makes nothing.
  static absl::StatusOr<std::string> Newest(const std::string& directory);

 private:
  struct Entry {
    std::string name;
    int64_t step = 0;
    uint64_t number = 0;  // of the save
    absl::Status damage;  // of the manifest; OK: it is whole
  };

  explicit CheckpointStore(const CheckpointOptions& options)
      : options_(options) {}
  // Newest first.
  static absl::StatusOr<std::vector<Entry>> List(const std::string& directory);
  absl::Status ClearLeftovers();
  absl::Status Prune();
  std::string Path(const std::string& name) const;

  const CheckpointOptions options_;
};

}  // namespace temper

#endif  // LEARNER_STORE_CHECKPOINT_H_
