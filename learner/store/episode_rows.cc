#include "learner/store/episode_rows.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/trajectory_stream.h"

namespace temper {
namespace {

absl::Status InsertBranches(Transaction* transaction, int64_t id,
                            const Trajectory& trajectory) {
  for (int i = 0; i < trajectory.branches_size(); ++i) {
    const Branch& branch = trajectory.branches(i);
    // What people ask for (tokens, log-probabilities) is in the database; kept
    // sets and routes, a hundred times as much, are in the segment file.
    RETURN_IF_ERROR(transaction->Run(
        "INSERT INTO branch VALUES (?, ?, ?, ?, ?, ?)",
        {id, i, SqlValue::Blob(branch.tokens()),
         SqlValue::Blob(branch.sampled()), SqlValue::Blob(branch.logprobs()),
         branch.route_bytes()}));
    for (const VersionSpan& span : branch.versions()) {
      RETURN_IF_ERROR(
          transaction->Run("INSERT INTO version_span VALUES (?, ?, ?, ?, ?)",
                           {id, i, span.begin(), span.end(), span.version()}));
    }
  }
  return absl::OkStatus();
}

absl::Status InsertTranscript(Transaction* transaction, int64_t id,
                              const Trajectory& trajectory) {
  for (int i = 0; i < trajectory.turns_size(); ++i) {
    const Turn& turn = trajectory.turns(i);
    RETURN_IF_ERROR(
        transaction->Run("INSERT INTO turn VALUES (?, ?, ?, ?, ?, ?, ?)",
                         {id, i, turn.role(), turn.text(), turn.branch(),
                          turn.token_begin(), turn.token_end()}));
  }
  for (int i = 0; i < trajectory.tool_calls_size(); ++i) {
    const ToolCallRecord& call = trajectory.tool_calls(i);
    RETURN_IF_ERROR(transaction->Run(
        "INSERT INTO tool_call VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        {id, i, call.turn(), call.call().name(), call.call().arguments_json(),
         call.result().content(), static_cast<int>(call.result().outcome()),
         call.result().elapsed_us()}));
  }
  for (int i = 0; i < trajectory.environment_calls_size(); ++i) {
    const EnvironmentCall& call = trajectory.environment_calls(i);
    RETURN_IF_ERROR(transaction->Run(
        "INSERT INTO environment_call VALUES (?, ?, ?, ?, ?)",
        {id, i, static_cast<int>(call.kind()), call.wait_us(), call.run_us()}));
  }
  for (int i = 0; i < trajectory.reward_parts_size(); ++i) {
    const RewardPart& part = trajectory.reward_parts(i);
    RETURN_IF_ERROR(
        transaction->Run("INSERT INTO reward_part VALUES (?, ?, ?, ?, ?)",
                         {id, i, part.name(), part.value(), part.weight()}));
  }
  return absl::OkStatus();
}

absl::Status LoadBranches(Transaction* transaction,
                          const std::string& segment_directory,
                          const SegmentRef& ref, int64_t id,
                          Trajectory* trajectory) {
  // Its checksum is looked at on each read: what is trained on has to be what
  // was acked.
  ASSIGN_OR_RETURN(const std::string bytes,
                   ReadSegment(segment_directory, ref));
  Trajectory bulk;
  ASSIGN_OR_RETURN(
      const auto rows,
      transaction->Query("SELECT tokens, sampled, logprobs, route_bytes FROM "
                         "branch WHERE episode = ? ORDER BY branch",
                         {id}));
  // A record of another episode would parse as well. Its shape is what can be
  // told of it here; the door looks at the rest when it is taken in again.
  if (!bulk.ParseFromString(bytes) ||
      bulk.branches_size() != static_cast<int>(rows.size())) {
    return absl::DataLossError(absl::StrCat(
        "episode ", id, ": its segment record is of another shape"));
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    Branch* branch = trajectory->add_branches();
    // Not a copy: routes may be of megabytes.
    branch->Swap(bulk.mutable_branches(static_cast<int>(i)));
    branch->set_tokens(rows[i][0].AsString());
    branch->set_sampled(rows[i][1].AsString());
    branch->set_logprobs(rows[i][2].AsString());
    branch->set_route_bytes(static_cast<uint32_t>(rows[i][3].AsInt()));
  }
  ASSIGN_OR_RETURN(
      const auto spans,
      transaction->Query("SELECT branch, begin, end, version FROM version_span "
                         "WHERE episode = ? ORDER BY branch, begin",
                         {id}));
  for (const SqlRow& row : spans) {
    VersionSpan* span =
        trajectory->mutable_branches(static_cast<int>(row[0].AsInt()))
            ->add_versions();
    span->set_begin(static_cast<uint32_t>(row[1].AsInt()));
    span->set_end(static_cast<uint32_t>(row[2].AsInt()));
    span->set_version(row[3].AsUint());
  }
  return absl::OkStatus();
}

absl::Status LoadTranscript(Transaction* transaction, int64_t id,
                            Trajectory* trajectory) {
  ASSIGN_OR_RETURN(
      const auto turns,
      transaction->Query("SELECT role, text, branch, token_begin, token_end "
                         "FROM turn WHERE episode = ? ORDER BY turn",
                         {id}));
  for (const SqlRow& row : turns) {
    Turn* turn = trajectory->add_turns();
    turn->set_role(row[0].AsString());
    turn->set_text(row[1].AsString());
    turn->set_branch(static_cast<uint32_t>(row[2].AsInt()));
    turn->set_token_begin(static_cast<uint32_t>(row[3].AsInt()));
    turn->set_token_end(static_cast<uint32_t>(row[4].AsInt()));
  }
  ASSIGN_OR_RETURN(
      const auto calls,
      transaction->Query("SELECT turn, name, arguments, content, outcome, "
                         "elapsed_us FROM tool_call WHERE episode = ? "
                         "ORDER BY call",
                         {id}));
  for (const SqlRow& row : calls) {
    ToolCallRecord* call = trajectory->add_tool_calls();
    call->set_turn(static_cast<uint32_t>(row[0].AsInt()));
    call->mutable_call()->set_name(row[1].AsString());
    call->mutable_call()->set_arguments_json(row[2].AsString());
    call->mutable_result()->set_content(row[3].AsString());
    call->mutable_result()->set_outcome(static_cast<Outcome>(row[4].AsInt()));
    call->mutable_result()->set_elapsed_us(row[5].AsUint());
  }
  ASSIGN_OR_RETURN(
      const auto environment_calls,
      transaction->Query("SELECT kind, wait_us, run_us FROM environment_call "
                         "WHERE episode = ? ORDER BY call",
                         {id}));
  for (const SqlRow& row : environment_calls) {
    EnvironmentCall* call = trajectory->add_environment_calls();
    call->set_kind(static_cast<EnvironmentCallKind>(row[0].AsInt()));
    call->set_wait_us(row[1].AsUint());
    call->set_run_us(row[2].AsUint());
  }
  ASSIGN_OR_RETURN(
      const auto parts,
      transaction->Query("SELECT name, value, weight FROM reward_part WHERE "
                         "episode = ? ORDER BY part",
                         {id}));
  for (const SqlRow& row : parts) {
    RewardPart* part = trajectory->add_reward_parts();
    part->set_name(row[0].AsString());
    part->set_value(row[1].AsDouble());
    part->set_weight(row[2].AsDouble());
  }
  return absl::OkStatus();
}

// The episode's own row, its pointer to the bulk into `ref`.
Trajectory FromRow(const SqlRow& row, const std::string& run, SegmentRef* ref) {
  Trajectory trajectory;
  trajectory.set_wire_version(kWireVersion);
  trajectory.mutable_key()->set_run(run);
  trajectory.mutable_key()->set_group(row[0].AsUint());
  trajectory.mutable_key()->set_sample(static_cast<uint32_t>(row[1].AsInt()));
  trajectory.mutable_key()->set_lease(row[2].AsUint());
  trajectory.set_purpose(static_cast<Purpose>(row[3].AsInt()));
  trajectory.set_task_id(row[4].AsString());
  trajectory.set_environment(row[5].AsString());
  trajectory.set_domain(row[6].AsString());
  trajectory.set_seed(row[7].AsUint());
  trajectory.set_outcome(static_cast<Outcome>(row[8].AsInt()));
  Verdict* verdict = trajectory.mutable_verdict();
  verdict->set_outcome(static_cast<Outcome>(row[9].AsInt()));
  verdict->set_verified(row[10].AsInt() != 0);
  verdict->set_correct(row[11].AsInt() != 0);
  verdict->set_answer(row[12].AsString());
  verdict->set_detail(row[13].AsString());
  trajectory.set_has_reward(!row[14].is_null());
  trajectory.set_reward(row[14].AsDouble());
  trajectory.set_generate_us(row[15].AsUint());
  trajectory.set_environment_us(row[16].AsUint());
  trajectory.set_reward_us(row[17].AsUint());
  trajectory.set_error(row[18].AsString());
  trajectory.set_worker(row[19].AsString());
  trajectory.set_task_refused(row[20].AsInt() != 0);
  *ref = {static_cast<uint32_t>(row[21].AsInt()), row[22].AsUint(),
          row[23].AsUint(), static_cast<uint32_t>(row[24].AsInt())};
  return trajectory;
}

}  // namespace

std::string BulkOf(const Trajectory& trajectory) {
  Trajectory bulk;
  for (const Branch& branch : trajectory.branches()) {
    Branch* copy = bulk.add_branches();
    copy->set_kept_offsets(branch.kept_offsets());
    copy->set_kept_ids(branch.kept_ids());
    copy->set_routes(branch.routes());
  }
  return bulk.SerializeAsString();
}

absl::StatusOr<int64_t> InsertEpisode(Transaction* transaction,
                                      const Trajectory& trajectory,
                                      const SegmentRef& bulk, int64_t attempt,
                                      int64_t received_us) {
  const TrajectoryKey& key = trajectory.key();
  const Verdict& verdict = trajectory.verdict();
  // NULL, not 0: an episode without a verifier's word has no reward (promise
  // P4), and SQL's avg leaves it out by itself.
  const SqlValue reward =
      trajectory.has_reward() ? SqlValue(trajectory.reward()) : SqlValue();
  // The columns by name: a later version of the schema may add some.
  RETURN_IF_ERROR(transaction->Run(
      "INSERT INTO episode(grp, sample, lease, attempt, purpose, task_id, "
      "environment, domain, seed, outcome, verdict_outcome, verified, correct, "
      "answer, detail, reward, generate_us, environment_us, reward_us, error, "
      "worker, task_refused, segment_file, segment_offset, segment_size, "
      "segment_crc, received_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
      "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      {key.group(),
       key.sample(),
       key.lease(),
       attempt,
       static_cast<int>(trajectory.purpose()),
       trajectory.task_id(),
       trajectory.environment(),
       trajectory.domain(),
       trajectory.seed(),
       static_cast<int>(trajectory.outcome()),
       static_cast<int>(verdict.outcome()),
       verdict.verified(),
       verdict.correct(),
       verdict.answer(),
       verdict.detail(),
       reward,
       trajectory.generate_us(),
       trajectory.environment_us(),
       trajectory.reward_us(),
       trajectory.error(),
       trajectory.worker(),
       trajectory.task_refused(),
       bulk.file,
       bulk.offset,
       bulk.size,
       bulk.crc,
       received_us}));
  const int64_t id = transaction->last_insert_id();
  RETURN_IF_ERROR(InsertBranches(transaction, id, trajectory));
  RETURN_IF_ERROR(InsertTranscript(transaction, id, trajectory));
  return id;
}

absl::StatusOr<Trajectory> LoadEpisode(Transaction* transaction,
                                       const std::string& segment_directory,
                                       const std::string& run, int64_t id) {
  ASSIGN_OR_RETURN(
      const auto rows,
      transaction->Query(
          "SELECT grp, sample, lease, purpose, task_id, environment, domain, "
          "seed, outcome, verdict_outcome, verified, correct, answer, detail, "
          "reward, generate_us, environment_us, reward_us, error, worker, "
          "task_refused, segment_file, segment_offset, segment_size, "
          "segment_crc FROM episode WHERE id = ?",
          {id}));
  if (rows.empty()) {
    return absl::NotFoundError(absl::StrCat("no episode ", id, " in run.db"));
  }
  SegmentRef ref;
  Trajectory trajectory = FromRow(rows[0], run, &ref);
  RETURN_IF_ERROR(
      LoadBranches(transaction, segment_directory, ref, id, &trajectory));
  RETURN_IF_ERROR(LoadTranscript(transaction, id, &trajectory));
  return trajectory;
}

}  // namespace temper
