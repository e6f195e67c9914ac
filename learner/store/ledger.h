// The ledger: every sample of every group is in exactly one state, and a
// trajectory is trained exactly once in the surviving lineage (promise P3).
//
//   issued -> received -> reserved(step) -> trained(step)
//      \-> rejected(reason)   \-> dropped(reason)   (from issued, received)
//
// Identity is (run, group, sample); a lease only tells copies apart: the first
// received whole wins. TRAIN and EVAL groups are numbered apart, so that an
// evaluation more or less does not change what training samples. EVAL samples
// end as received.
//
// Every call is one transaction of run.db, durable when it returns OK; on an
// error nothing changed. Thread-safe. FailedPrecondition says that a caller
// asked for a transition there is not.

#ifndef LEARNER_STORE_LEDGER_H_
#define LEARNER_STORE_LEDGER_H_

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "learner/store/run_db.h"
#include "learner/store/segment_file.h"
#include "proto/trajectory.pb.h"

namespace temper {

// EVAL groups are numbered from here on, TRAIN groups from 1.
inline constexpr uint64_t kEvalGroupBase = uint64_t{1} << 40;

struct SampleKey {
  uint64_t group = 0;
  uint32_t sample = 0;
  auto operator<=>(const SampleKey&) const = default;
};

struct GroupRecord {
  uint64_t group = 0;
  Purpose purpose = PURPOSE_TRAIN;
  std::string task_id;
  std::optional<int64_t> position;   // in the task order
  uint32_t size = 0;                 // samples 0 .. size - 1
  std::optional<uint64_t> replaces;  // the dropped group it stands in for
};

// A group and which of its samples are still issued.
struct PendingGroup {
  GroupRecord group;
  std::vector<uint32_t> wanted;  // ascending; empty: all are received
};

// A received sample of an evaluation: what counts of it.
struct EvaluatedSample {
  std::string task_id;
  std::string environment;
  Outcome outcome = OUTCOME_UNSPECIFIED;
  bool correct = false;  // a verifier ran and found it so
  double reward = 0;
};

// What became of a delivery.
enum class CommitResult {
  kCommitted,  // recorded; a TRAIN sample is received
  kDuplicate,  // another copy was first, or the group is settled
  kUnknown,    // no such sample was issued
  kRetry,      // an outcome without reward, recorded: lease it again
  kExhausted,  // the same, once more than allowed: drop the group
};

// What training computed of one sample, for `temper inspect`: log-probabilities
// before the sample's own update, over the sampled tokens of all branches.
struct TrainRecord {
  SampleKey key;
  double advantage = 0;
  bool masked = false;  // by the off-policy mask
  std::vector<float> logp_train;
};

struct StepRecord {
  int64_t step = 0;
  uint64_t weight_version = 0;  // trained from
  int64_t tokens = 0;           // sampled tokens trained
  int64_t started_us = 0;
  std::vector<SampleKey> samples;
  std::vector<MetricValue> metrics;
  std::vector<TrainRecord> records;  // may lack samples
};

struct ResumeSummary {
  int64_t attempt = 0;  // the new one
  int64_t steps_undone = 0;
  int64_t samples_kept = 0;      // received: need no new sampling
  int64_t samples_reissued = 0;  // sampled from versions that no longer count
};

class Ledger {
 public:
  // After RunDb::StartRun. `db` outlives it. Bulk goes to `segment_directory`.
  static absl::StatusOr<std::unique_ptr<Ledger>> Create(
      RunDb* db, const std::string& segment_directory, int retries_max = 2);

  // All samples of all groups, or of none. InvalidArgument for a group without
  // samples or a number that is not of its purpose (kEvalGroupBase);
  // FailedPrecondition for a number that was issued before.
  absl::Status IssueGroups(const std::vector<GroupRecord>& groups);

  // Commits a trajectory that passed the door: rows and segment are durable
  // before it returns. A repeated delivery (also under another lease) is a
  // duplicate. A trajectory without reward is recorded and leaves its sample
  // issued, `retries_max` times; then the answer is kExhausted. At once so
  // where its environment refuses the task.
  absl::StatusOr<CommitResult> Commit(const Trajectory& trajectory);

  // Settles a group that cannot be trained and issues its replacements in the
  // same transaction. Nothing of it may be reserved or trained.
  absl::Status DropGroup(uint64_t group, const std::string& reason,
                         const std::vector<GroupRecord>& replacements);
  // The same where the door refused a trajectory of `key` for good: that
  // sample is rejected, the others are dropped. FailedPrecondition unless the
  // sample is issued.
  absl::Status RejectSample(const SampleKey& key, const std::string& reason,
                            const std::vector<GroupRecord>& replacements);
  // A delivery that is no fault of the sample's was refused (it was sampled
  // from weights that do not count): kRetry and kExhausted as Commit's,
  // kDuplicate if the sample is settled.
  absl::StatusOr<CommitResult> RecordRefusal(const SampleKey& key);

  // Sets whole received TRAIN groups aside for `step`.
  absl::Status Reserve(int64_t step, const std::vector<uint64_t>& groups);
  // Step, metrics and ids trained: `record.samples` are those reserved for it,
  // all of them, and the step follows on the last.
  absl::Status CommitStep(const StepRecord& record);

  // Goes back to the checkpoint of (attempt, step) and starts a new attempt:
  // later steps no longer count; what they trained is received again where its
  // weight versions survive, else issued again under the same group ids. EVAL
  // groups stay if they are whole and their weight versions survive, so that an
  // evaluation cut short can go on; all others are dropped and count nowhere.
  // FailedPrecondition where that step is not in the surviving lineage.
  absl::StatusOr<ResumeSummary> Resume(int64_t attempt, int64_t step);

  // TRAIN groups with issued or received samples, ascending.
  absl::StatusOr<std::vector<PendingGroup>> UnsettledTrainGroups();
  absl::StatusOr<std::vector<SampleKey>> ReceivedTrainSamples();
  // The received EVAL samples that were sampled from the weights behind which
  // there are `step` steps of the surviving lineage; by (group, sample).
  absl::StatusOr<std::vector<EvaluatedSample>> EvaluatedSamples(int64_t step);
  // NotFound for a group never issued.
  absl::StatusOr<uint32_t> GroupSize(uint64_t group);
  // What a received, reserved or trained sample consists of.
  absl::StatusOr<Trajectory> Load(const SampleKey& key);

  // Read once at start, then the caller counts on from there: nothing is taken
  // by the call. Dropped groups and attempts that no longer count are counted.
  // One above every group of that purpose; at first 1, or kEvalGroupBase.
  absl::StatusOr<uint64_t> NextGroup(Purpose purpose);
  // One above every lease that anything was delivered under; at first 1.
  absl::StatusOr<uint64_t> NextLease();
  // Where the task order goes on; at first 0.
  absl::StatusOr<int64_t> NextPosition();

  // Whether the sample is issued; not one that was never issued.
  absl::StatusOr<bool> IsIssued(const SampleKey& key);
  // DataLoss names the first promise of this header that the tables break. For
  // tests, after every death that they bring about.
  absl::Status Audit();

 private:
  Ledger(RunDb* db, std::string segment_directory, std::string run,
         std::unique_ptr<SegmentWriter> segments, int retries_max)
      : db_(db),
        segment_directory_(std::move(segment_directory)),
        run_(std::move(run)),
        retries_max_(retries_max),
        segments_(std::move(segments)) {}
  absl::Status InsertGroups(Transaction* transaction,
                            const std::vector<GroupRecord>& groups);
  absl::Status DropUnsoundEvaluations(Transaction* transaction);
  absl::Status DropInTransaction(Transaction* transaction, uint64_t group,
                                 const std::string& reason);

  RunDb* const db_;
  const std::string segment_directory_;
  const std::string run_;
  const int retries_max_;
  // Used only inside a transaction of db_, whose lock guards it.
  std::unique_ptr<SegmentWriter> segments_;
};

}  // namespace temper

#endif  // LEARNER_STORE_LEDGER_H_
