#include "learner/store/ledger.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "learner/store/episode_rows.h"
#include "proto/wire/packed_array.h"

namespace temper {
namespace {

// Large enough that a run has few files, small enough that one damaged or lost
// takes few trajectories with it.
constexpr uint64_t kSegmentFileBytes = uint64_t{64} << 20;

absl::StatusOr<std::vector<SampleKey>> ReadKeys(Transaction* transaction,
                                                const char* sql,
                                                const SqlRow& parameters) {
  ASSIGN_OR_RETURN(const auto rows, transaction->Query(sql, parameters));
  std::vector<SampleKey> keys;
  for (const SqlRow& row : rows) {
    keys.push_back({row[0].AsUint(), static_cast<uint32_t>(row[1].AsInt())});
  }
  return keys;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ledger>> Ledger::Create(
    RunDb* db, const std::string& segment_directory, int retries_max) {
  ASSIGN_OR_RETURN(const RunInfo info, db->ReadRun());
  ASSIGN_OR_RETURN(auto segments,
                   SegmentWriter::Create(segment_directory, kSegmentFileBytes));
  return std::unique_ptr<Ledger>(new Ledger(db, segment_directory, info.name,
                                            std::move(segments), retries_max));
}

absl::Status Ledger::InsertGroups(Transaction* transaction,
                                  const std::vector<GroupRecord>& groups) {
  ASSIGN_OR_RETURN(const int64_t attempt, CurrentAttempt(transaction));
  const int64_t now = db_->clock()->UnixMicros();
  for (const GroupRecord& group : groups) {
    // A group's number says its purpose to whoever has no row of it: the queue,
    // the buffer, resumes. Were the two ever at odds, an evaluation could be
    // trained on.
    const bool eval_id = group.group >= kEvalGroupBase;
    if (group.group == 0 || group.size == 0 ||
        eval_id != (group.purpose == PURPOSE_EVAL)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "group ", group.group, " of size ", group.size, " and purpose ",
          Purpose_Name(group.purpose), " cannot be issued"));
    }
    RETURN_IF_ERROR(transaction->Run(
        "INSERT INTO grp VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        {group.group, static_cast<int>(group.purpose), group.task_id,
         group.position, group.size, group.replaces, attempt, now}));
    for (uint32_t sample = 0; sample < group.size; ++sample) {
      // With its group, in one transaction: a group of which some samples have
      // no row could never become whole.
      RETURN_IF_ERROR(
          transaction->Run("INSERT INTO ledger(grp, sample, state, updated_us) "
                           "VALUES (?, ?, 'issued', ?)",
                           {group.group, sample, now}));
    }
  }
  return absl::OkStatus();
}

absl::Status Ledger::IssueGroups(const std::vector<GroupRecord>& groups) {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  RETURN_IF_ERROR(InsertGroups(transaction.get(), groups));
  return transaction->Commit();
}

absl::StatusOr<CommitResult> Ledger::Commit(const Trajectory& trajectory) {
  const TrajectoryKey& key = trajectory.key();
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  ASSIGN_OR_RETURN(
      const auto rows,
      transaction->Query("SELECT state, retries, purpose FROM ledger JOIN grp "
                         "USING(grp) WHERE grp = ? AND sample = ?",
                         {key.group(), key.sample()}));
  // Answered, not refused: a worker that is told nothing would send it again
  // for ever.
  if (rows.empty() || key.run() != run_ ||
      rows[0][2].AsInt() != trajectory.purpose()) {
    return CommitResult::kUnknown;
  }
  // Whichever copy came first is the one that counts. A second may have other
  // tokens (another worker sampled it), and the packer has the first.
  if (rows[0][0].AsString() != "issued") return CommitResult::kDuplicate;
  ASSIGN_OR_RETURN(const int64_t attempt, CurrentAttempt(transaction.get()));
  // A failure leaves its sample issued, so the state alone does not tell a
  // second copy of the same try from the next try: without this a resend would
  // use up a retry.
  ASSIGN_OR_RETURN(const int64_t copies,
                   transaction->QueryInt(
                       "SELECT count(*) FROM episode WHERE grp = ? AND "
                       "sample = ? AND lease = ? AND attempt = ?",
                       {key.group(), key.sample(), key.lease(), attempt}, 0));
  if (copies > 0) return CommitResult::kDuplicate;
  const int64_t now = db_->clock()->UnixMicros();
  // Before the rows that point to it: a death in between leaves bytes that
  // nothing names, never a row without its bytes.
  ASSIGN_OR_RETURN(const SegmentRef bulk,
                   segments_->Append(BulkOf(trajectory)));
  ASSIGN_OR_RETURN(
      const int64_t id,
      InsertEpisode(transaction.get(), trajectory, bulk, attempt, now));
  CommitResult result = CommitResult::kCommitted;
  if (trajectory.has_reward()) {
    RETURN_IF_ERROR(transaction->Run(
        "UPDATE ledger SET state = 'received', episode = ?, updated_us = ? "
        "WHERE grp = ? AND sample = ?",
        {id, now, key.group(), key.sample()}));
  } else {
    // The episode stays on record, so that `temper inspect` shows why a sample
    // was tried again; only the ledger does not point to it.
    const bool last =
        trajectory.task_refused() || rows[0][1].AsInt() >= retries_max_;
    result = last ? CommitResult::kExhausted : CommitResult::kRetry;
    RETURN_IF_ERROR(transaction->Run(
        "UPDATE ledger SET retries = retries + 1, updated_us = ? "
        "WHERE grp = ? AND sample = ?",
        {now, key.group(), key.sample()}));
  }
  RETURN_IF_ERROR(transaction->Commit());
  return result;
}

absl::Status Ledger::DropInTransaction(Transaction* transaction, uint64_t group,
                                       const std::string& reason) {
  // What was trained cannot be taken back, and a step that is under way counts
  // on what it reserved.
  ASSIGN_OR_RETURN(
      const int64_t settled,
      transaction->QueryInt("SELECT count(*) FROM ledger WHERE grp = ? AND "
                            "state IN ('reserved', 'trained')",
                            {group}, 0));
  if (settled != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("group ", group, " has ", settled,
                     " samples reserved or trained and cannot be dropped"));
  }
  return transaction->Run(
      "UPDATE ledger SET state = 'dropped', reason = ?, updated_us = ? "
      "WHERE grp = ? AND state IN ('issued', 'received')",
      {reason, db_->clock()->UnixMicros(), group});
}

absl::Status Ledger::DropGroup(uint64_t group, const std::string& reason,
                               const std::vector<GroupRecord>& replacements) {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  RETURN_IF_ERROR(DropInTransaction(transaction.get(), group, reason));
  if (transaction->changes() == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("group ", group, " has nothing to drop"));
  }
  // In the same transaction: a learner that dies between the two would go on
  // with a group too few, and its step would wait for ever.
  RETURN_IF_ERROR(InsertGroups(transaction.get(), replacements));
  return transaction->Commit();
}

absl::Status Ledger::RejectSample(
    const SampleKey& key, const std::string& reason,
    const std::vector<GroupRecord>& replacements) {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  RETURN_IF_ERROR(transaction->Run(
      "UPDATE ledger SET state = 'rejected', reason = ?, updated_us = ? "
      "WHERE grp = ? AND sample = ? AND state = 'issued'",
      {reason, db_->clock()->UnixMicros(), key.group, key.sample}));
  if (transaction->changes() == 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "group ", key.group, " sample ", key.sample, " is not issued"));
  }
  RETURN_IF_ERROR(
      DropInTransaction(transaction.get(), key.group,
                        absl::StrCat("sample ", key.sample, " was rejected")));
  RETURN_IF_ERROR(InsertGroups(transaction.get(), replacements));
  return transaction->Commit();
}

absl::StatusOr<CommitResult> Ledger::RecordRefusal(const SampleKey& key) {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  ASSIGN_OR_RETURN(
      const int64_t retries,
      transaction->QueryInt("SELECT retries FROM ledger WHERE grp = ? AND "
                            "sample = ? AND state = 'issued'",
                            {key.group, key.sample}, -1));
  // Nothing to undo and nothing to count: the transaction is left to roll back.
  if (retries < 0) return CommitResult::kDuplicate;
  RETURN_IF_ERROR(transaction->Run(
      "UPDATE ledger SET retries = retries + 1, updated_us = ? "
      "WHERE grp = ? AND sample = ?",
      {db_->clock()->UnixMicros(), key.group, key.sample}));
  RETURN_IF_ERROR(transaction->Commit());
  return retries >= retries_max_ ? CommitResult::kExhausted
                                 : CommitResult::kRetry;
}

absl::Status Ledger::Reserve(int64_t step,
                             const std::vector<uint64_t>& groups) {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  ASSIGN_OR_RETURN(const int64_t attempt, CurrentAttempt(transaction.get()));
  for (const uint64_t group : groups) {
    ASSIGN_OR_RETURN(
        const int64_t size,
        transaction->QueryInt("SELECT size FROM grp WHERE grp = ? AND "
                              "purpose = ?",
                              {group, static_cast<int>(PURPOSE_TRAIN)}, -1));
    RETURN_IF_ERROR(transaction->Run(
        "UPDATE ledger SET state = 'reserved', step = ?, attempt = ?, "
        "updated_us = ? WHERE grp = ? AND state = 'received'",
        {step, attempt, db_->clock()->UnixMicros(), group}));
    // Counted by the rows that the update met, not asked before it: between a
    // question and an update the group could lose a sample.
    if (transaction->changes() != size) {
      return absl::FailedPreconditionError(absl::StrCat(
          "group ", group, " cannot be reserved for step ", step, ": ",
          transaction->changes(), " samples of ", size, " are received"));
    }
  }
  return transaction->Commit();
}

absl::Status Ledger::CommitStep(const StepRecord& record) {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  Transaction* const txn = transaction.get();
  ASSIGN_OR_RETURN(const int64_t attempt, CurrentAttempt(txn));
  ASSIGN_OR_RETURN(const int64_t last,
                   txn->QueryInt("SELECT max(step) FROM lineage_step", {}, 0));
  // A gap or a repetition would make the lineage's steps other than 1, 2, 3 and
  // on, which checkpoints, schedules and the audit go by.
  if (record.step != last + 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("step ", record.step, " does not follow on ", last));
  }
  ASSIGN_OR_RETURN(
      const std::vector<SampleKey> reserved,
      ReadKeys(txn,
               "SELECT grp, sample FROM ledger WHERE state = 'reserved' AND "
               "step = ? ORDER BY grp, sample",
               {record.step}));
  // All that was reserved and nothing else: a sample that stays reserved would
  // never be trained, one that was not could be trained twice.
  std::vector<SampleKey> samples = record.samples;
  std::sort(samples.begin(), samples.end());
  if (samples != reserved) {
    return absl::FailedPreconditionError(absl::StrCat(
        "step ", record.step, " trained ", samples.size(),
        " samples; reserved for it are ", reserved.size(), " (or others)"));
  }
  const int64_t now = db_->clock()->UnixMicros();
  RETURN_IF_ERROR(
      txn->Run("INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?)",
               {attempt, record.step, record.weight_version, samples.size(),
                record.tokens, record.started_us, now}));
  for (const SampleKey& key : samples) {
    RETURN_IF_ERROR(txn->Run("INSERT INTO trained VALUES (?, ?, ?, ?)",
                             {attempt, record.step, key.group, key.sample}));
  }
  for (const TrainRecord& train : record.records) {
    RETURN_IF_ERROR(
        txn->Run("INSERT INTO train_record VALUES (?, ?, ?, ?, ?, ?, ?)",
                 {attempt, record.step, train.key.group, train.key.sample,
                  train.advantage, train.masked,
                  // As the sampler's record is: the two are compared bit for
                  // bit.
                  SqlValue::Blob(PackArray(train.logp_train))}));
  }
  RETURN_IF_ERROR(
      txn->Run("UPDATE ledger SET state = 'trained', updated_us = ? "
               "WHERE state = 'reserved' AND step = ?",
               {now, record.step}));
  RETURN_IF_ERROR(WriteMetrics(txn, attempt, record.step, record.metrics));
  return transaction->Commit();
}

absl::StatusOr<ResumeSummary> Ledger::Resume(int64_t attempt, int64_t step) {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  Transaction* const txn = transaction.get();
  ASSIGN_OR_RETURN(
      const int64_t found,
      txn->QueryInt("SELECT count(*) FROM lineage_step WHERE attempt = ? AND "
                    "step = ?",
                    {attempt, step}, 0));
  // Step 0 has no row: it is the base model, of every attempt.
  if (step != 0 && found != 1) {
    return absl::FailedPreconditionError(absl::StrCat(
        "step ", step, " of attempt ", attempt,
        " is not in the surviving lineage of run.db; resume from another "
        "checkpoint"));
  }
  ResumeSummary summary;
  ASSIGN_OR_RETURN(summary.attempt, CurrentAttempt(txn));
  ++summary.attempt;
  ASSIGN_OR_RETURN(
      summary.steps_undone,
      txn->QueryInt("SELECT count(*) FROM lineage_step WHERE step > ?", {step},
                    0));
  const int64_t now = db_->clock()->UnixMicros();
  // From here on the views lineage_* leave out every step above `step`, also
  // for the statements below: their order is part of what they say.
  RETURN_IF_ERROR(
      txn->Run("INSERT INTO attempt SELECT ?, ?, ?, config, revision, machine "
               "FROM attempt ORDER BY attempt DESC LIMIT 1",
               {summary.attempt, step, now}));
  // First all that is no longer trained becomes received, then what of it was
  // sampled from weights that no longer count becomes issued. The other way
  // round those samples would stay received.
  RETURN_IF_ERROR(txn->Run(
      "UPDATE ledger SET state = 'received', step = NULL, attempt = NULL, "
      "updated_us = ? WHERE state = 'reserved' OR "
      "(state = 'trained' AND step > ?)",
      {now, step}));
  RETURN_IF_ERROR(txn->Run(
      "UPDATE ledger SET state = 'issued', episode = NULL, updated_us = ? "
      "WHERE state = 'received' AND grp < ? AND EXISTS ("
      "  SELECT 1 FROM version_span v WHERE v.episode = ledger.episode AND "
      "  v.version NOT IN (SELECT version FROM lineage_weight_version))",
      {now, kEvalGroupBase}));
  // Of the update just before; the next statement sets it anew.
  summary.samples_reissued = txn->changes();
  RETURN_IF_ERROR(DropUnsoundEvaluations(txn));
  ASSIGN_OR_RETURN(summary.samples_kept,
                   txn->QueryInt("SELECT count(*) FROM ledger WHERE "
                                 "state = 'received' AND grp < ?",
                                 {kEvalGroupBase}, 0));
  // Those who waited are gone, and their rows would be shown as waits of the
  // new attempt.
  RETURN_IF_ERROR(txn->Run("DELETE FROM wait"));
  RETURN_IF_ERROR(transaction->Commit());
  return summary;
}

absl::Status Ledger::DropUnsoundEvaluations(Transaction* transaction) {
  // `episode` goes too: the views of episodes that count go by it.
  return transaction->Run(
      "UPDATE ledger SET state = 'dropped', episode = NULL, updated_us = ?1, "
      "reason = 'the run was resumed from before its end' WHERE grp IN ("
      "  SELECT grp FROM ledger l WHERE grp >= ?2 AND ("
      "    state = 'issued' OR (state = 'received' AND NOT EXISTS ("
      "      SELECT 1 FROM version_span v WHERE v.episode = l.episode)) OR "
      "    EXISTS (SELECT 1 FROM version_span v WHERE v.episode = l.episode "
      "      AND v.version NOT IN "
      "      (SELECT version FROM lineage_weight_version)))) "
      "AND state IN ('issued', 'received')",
      {db_->clock()->UnixMicros(), kEvalGroupBase});
}

absl::StatusOr<std::vector<EvaluatedSample>> Ledger::EvaluatedSamples(
    int64_t step) {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  ASSIGN_OR_RETURN(
      const auto rows,
      transaction->Query(
          "SELECT g.task_id, e.environment, e.outcome, e.verified AND "
          "e.correct, e.reward FROM ledger l JOIN grp g ON g.grp = l.grp "
          "JOIN episode e ON e.id = l.episode WHERE l.grp >= ? AND l.state = "
          "'received' AND ? = ("
          "  SELECT w.step FROM version_span v "
          "  JOIN lineage_weight_version w USING(version) "
          "  WHERE v.episode = l.episode ORDER BY version LIMIT 1) "
          "ORDER BY l.grp, l.sample",
          {kEvalGroupBase, step}));
  std::vector<EvaluatedSample> samples;
  for (const SqlRow& row : rows) {
    samples.push_back({row[0].AsString(), row[1].AsString(),
                       static_cast<Outcome>(row[2].AsInt()),
                       row[3].AsInt() != 0, row[4].AsDouble()});
  }
  return samples;
}

absl::StatusOr<std::vector<PendingGroup>> Ledger::UnsettledTrainGroups() {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  ASSIGN_OR_RETURN(
      const auto rows,
      transaction->Query("SELECT grp, purpose, task_id, position, size, "
                         "replaces, sample, state FROM grp JOIN ledger "
                         "USING(grp) WHERE state IN ('issued', 'received') "
                         "AND grp < ? ORDER BY grp, sample",
                         {kEvalGroupBase}));
  std::vector<PendingGroup> pending;
  for (const SqlRow& row : rows) {
    if (pending.empty() || pending.back().group.group != row[0].AsUint()) {
      GroupRecord& group = pending.emplace_back().group;
      group.group = row[0].AsUint();
      group.purpose = static_cast<Purpose>(row[1].AsInt());
      group.task_id = row[2].AsString();
      if (!row[3].is_null()) group.position = row[3].AsInt();
      group.size = static_cast<uint32_t>(row[4].AsInt());
      if (!row[5].is_null()) group.replaces = row[5].AsUint();
    }
    // A group whose samples are all received is in the list too, with none
    // wanted: the buffer has it whole, and a step has to open it.
    if (row[7].AsString() == "issued") {
      pending.back().wanted.push_back(static_cast<uint32_t>(row[6].AsInt()));
    }
  }
  return pending;
}

absl::StatusOr<std::vector<SampleKey>> Ledger::ReceivedTrainSamples() {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  return ReadKeys(transaction.get(),
                  "SELECT grp, sample FROM ledger WHERE state = 'received' "
                  "AND grp < ? ORDER BY grp, sample",
                  {kEvalGroupBase});
}

absl::StatusOr<Trajectory> Ledger::Load(const SampleKey& key) {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  ASSIGN_OR_RETURN(
      const int64_t id,
      transaction->QueryInt(
          "SELECT episode FROM ledger WHERE grp = ? AND sample = ?",
          {key.group, key.sample}, -1));
  return LoadEpisode(transaction.get(), segment_directory_, run_, id);
}

absl::StatusOr<uint32_t> Ledger::GroupSize(uint64_t group) {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  ASSIGN_OR_RETURN(
      const int64_t size,
      transaction->QueryInt("SELECT size FROM grp WHERE grp = ?", {group}, -1));
  if (size < 0) {
    return absl::NotFoundError(
        absl::StrCat("group ", group, " was never issued"));
  }
  return static_cast<uint32_t>(size);
}

absl::StatusOr<uint64_t> Ledger::NextGroup(Purpose purpose) {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  // Over dropped groups and dead attempts too: numbers are the streams of
  // random numbers, and one used twice would sample the same tokens again.
  const bool eval = purpose == PURPOSE_EVAL;
  ASSIGN_OR_RETURN(
      const int64_t highest,
      transaction->QueryInt("SELECT max(grp) FROM grp WHERE purpose = ?",
                            {static_cast<int>(purpose)},
                            eval ? int64_t{kEvalGroupBase} - 1 : 0));
  return static_cast<uint64_t>(highest) + 1;
}

absl::StatusOr<uint64_t> Ledger::NextLease() {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  ASSIGN_OR_RETURN(
      const int64_t highest,
      transaction->QueryInt("SELECT max(lease) FROM episode", {}, 0));
  return static_cast<uint64_t>(highest) + 1;
}

absl::StatusOr<int64_t> Ledger::NextPosition() {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  // Replacements of the same task have none; they do not move the order on.
  return transaction->QueryInt("SELECT max(position) + 1 FROM grp", {}, 0);
}

absl::StatusOr<bool> Ledger::IsIssued(const SampleKey& key) {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  ASSIGN_OR_RETURN(
      const int64_t found,
      transaction->QueryInt("SELECT count(*) FROM ledger WHERE grp = ? AND "
                            "sample = ? AND state = 'issued'",
                            {key.group, key.sample}, 0));
  return found == 1;
}

}  // namespace temper
