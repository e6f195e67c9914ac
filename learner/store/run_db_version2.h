// The first step of run.db's schema (learner/store/run_db_schema.h): released,
// so it is never edited.

#ifndef LEARNER_STORE_RUN_DB_VERSION2_H_
#define LEARNER_STORE_RUN_DB_VERSION2_H_

namespace temper {

// From an empty file.
inline constexpr char kRunDbToVersion2[] = R"sql(
CREATE TABLE run(
  id INTEGER PRIMARY KEY CHECK(id = 1),
  name TEXT NOT NULL,
  seed INTEGER NOT NULL,
  created_us INTEGER NOT NULL);

CREATE TABLE attempt(
  attempt INTEGER PRIMARY KEY,
  base_step INTEGER NOT NULL,
  started_us INTEGER NOT NULL,
  config TEXT NOT NULL,             -- resolved; a resume may change it
  revision TEXT NOT NULL,           -- of the program
  machine TEXT NOT NULL);

CREATE TABLE step(
  attempt INTEGER NOT NULL REFERENCES attempt(attempt),
  step INTEGER NOT NULL CHECK(step >= 1),
  weight_version INTEGER NOT NULL,  -- trained from
  samples INTEGER NOT NULL,
  tokens INTEGER NOT NULL,          -- sampled
  started_us INTEGER NOT NULL,
  finished_us INTEGER NOT NULL,
  PRIMARY KEY(attempt, step)) WITHOUT ROWID;

CREATE TABLE metric(
  attempt INTEGER NOT NULL,
  step INTEGER NOT NULL,            -- 0: before the first
  name TEXT NOT NULL,
  value REAL,                       -- NULL: nothing was measured
  PRIMARY KEY(attempt, step, name)) WITHOUT ROWID;

CREATE TABLE trained(               -- the ids of a step
  attempt INTEGER NOT NULL,
  step INTEGER NOT NULL,
  grp INTEGER NOT NULL,
  sample INTEGER NOT NULL,
  PRIMARY KEY(attempt, step, grp, sample)) WITHOUT ROWID;

CREATE TABLE train_record(          -- what training computed, for inspection
  attempt INTEGER NOT NULL,
  step INTEGER NOT NULL,
  grp INTEGER NOT NULL,
  sample INTEGER NOT NULL,
  advantage REAL NOT NULL,
  masked INTEGER NOT NULL,          -- by the off-policy mask
  logp_train BLOB NOT NULL,         -- float32 [sampled tokens of all branches]
  PRIMARY KEY(attempt, step, grp, sample)) WITHOUT ROWID;

CREATE TABLE checkpoint(
  attempt INTEGER NOT NULL,
  step INTEGER NOT NULL,
  path TEXT NOT NULL,
  saved_us INTEGER NOT NULL,
  PRIMARY KEY(attempt, step)) WITHOUT ROWID;

CREATE TABLE weight_version(
  version INTEGER PRIMARY KEY,      -- never used again
  attempt INTEGER NOT NULL,
  step INTEGER NOT NULL,            -- updates behind it
  sha256 BLOB NOT NULL,
  total_bytes INTEGER NOT NULL,
  published_us INTEGER NOT NULL);

CREATE TABLE task(
  id TEXT PRIMARY KEY,
  environment TEXT NOT NULL,
  domain TEXT NOT NULL,
  split TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE grp(
  grp INTEGER PRIMARY KEY,
  purpose INTEGER NOT NULL,         -- Purpose of proto/trajectory.proto
  task_id TEXT NOT NULL,
  position INTEGER,                 -- in the task order; NULL: reissued, EVAL
  size INTEGER NOT NULL,
  replaces INTEGER,                 -- the dropped group it stands in for
  attempt INTEGER NOT NULL,
  issued_us INTEGER NOT NULL);

CREATE TABLE episode(               -- every delivery that was recorded
  id INTEGER PRIMARY KEY,
  grp INTEGER NOT NULL REFERENCES grp(grp),
  sample INTEGER NOT NULL,
  lease INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  purpose INTEGER NOT NULL,
  task_id TEXT NOT NULL,
  environment TEXT NOT NULL,
  domain TEXT NOT NULL,
  seed INTEGER NOT NULL,
  outcome INTEGER NOT NULL,         -- Outcome of proto/task.proto
  verdict_outcome INTEGER NOT NULL,
  verified INTEGER NOT NULL,
  correct INTEGER NOT NULL,
  answer TEXT NOT NULL,
  detail TEXT NOT NULL,
  reward REAL,                      -- NULL: none
  generate_us INTEGER NOT NULL,
  environment_us INTEGER NOT NULL,
  reward_us INTEGER NOT NULL,
  error TEXT NOT NULL,
  worker TEXT NOT NULL,
  segment_file INTEGER NOT NULL,    -- kept sets and routes
  segment_offset INTEGER NOT NULL,
  segment_size INTEGER NOT NULL,
  segment_crc INTEGER NOT NULL,
  received_us INTEGER NOT NULL,
  UNIQUE(grp, sample, attempt, lease));

CREATE TABLE branch(                -- arrays as in proto/trajectory.proto
  episode INTEGER NOT NULL REFERENCES episode(id),
  branch INTEGER NOT NULL,
  tokens BLOB NOT NULL,
  sampled BLOB NOT NULL,
  logprobs BLOB NOT NULL,
  route_bytes INTEGER NOT NULL,
  PRIMARY KEY(episode, branch)) WITHOUT ROWID;

CREATE TABLE version_span(
  episode INTEGER NOT NULL,
  branch INTEGER NOT NULL,
  begin INTEGER NOT NULL,           -- of the branch's sampled tokens
  end INTEGER NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY(episode, branch, begin)) WITHOUT ROWID;

CREATE TABLE turn(
  episode INTEGER NOT NULL REFERENCES episode(id),
  turn INTEGER NOT NULL,
  role TEXT NOT NULL,
  text TEXT NOT NULL,
  branch INTEGER NOT NULL,
  token_begin INTEGER NOT NULL,
  token_end INTEGER NOT NULL,
  PRIMARY KEY(episode, turn)) WITHOUT ROWID;

CREATE TABLE tool_call(
  episode INTEGER NOT NULL REFERENCES episode(id),
  call INTEGER NOT NULL,
  turn INTEGER NOT NULL,
  name TEXT NOT NULL,
  arguments TEXT NOT NULL,
  content TEXT NOT NULL,
  outcome INTEGER NOT NULL,
  elapsed_us INTEGER NOT NULL,
  PRIMARY KEY(episode, call)) WITHOUT ROWID;

CREATE TABLE reward_part(
  episode INTEGER NOT NULL REFERENCES episode(id),
  part INTEGER NOT NULL,
  name TEXT NOT NULL,
  value REAL NOT NULL,
  weight REAL NOT NULL,
  PRIMARY KEY(episode, part)) WITHOUT ROWID;

CREATE TABLE ledger(
  grp INTEGER NOT NULL REFERENCES grp(grp),
  sample INTEGER NOT NULL,
  state TEXT NOT NULL CHECK(state IN ('issued', 'received', 'reserved',
                                      'trained', 'rejected', 'dropped')),
  step INTEGER,
  attempt INTEGER,
  reason TEXT,
  retries INTEGER NOT NULL DEFAULT 0,
  episode INTEGER REFERENCES episode(id),
  updated_us INTEGER NOT NULL,
  CHECK((state IN ('reserved', 'trained')) =
        (step IS NOT NULL AND attempt IS NOT NULL)),
  CHECK((state IN ('rejected', 'dropped')) = (reason IS NOT NULL)),
  CHECK(state NOT IN ('received', 'reserved', 'trained') OR
        episode IS NOT NULL),
  PRIMARY KEY(grp, sample)) WITHOUT ROWID;
CREATE INDEX ledger_state ON ledger(state);

CREATE TABLE event(
  id INTEGER PRIMARY KEY,
  at_us INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  process TEXT NOT NULL,
  kind TEXT NOT NULL,
  detail TEXT NOT NULL);

CREATE TABLE wait(
  process TEXT NOT NULL,
  name TEXT NOT NULL,
  elapsed_ms INTEGER NOT NULL,
  deadline_ms INTEGER NOT NULL,
  reported_us INTEGER NOT NULL,
  PRIMARY KEY(process, name)) WITHOUT ROWID;

CREATE VIEW lineage_step AS SELECT * FROM step s WHERE NOT EXISTS (
  SELECT 1 FROM attempt a WHERE a.attempt > s.attempt AND a.base_step < s.step);

CREATE VIEW lineage_metric AS SELECT * FROM metric m WHERE NOT EXISTS (
  SELECT 1 FROM attempt a WHERE a.attempt > m.attempt AND a.base_step < m.step);

CREATE VIEW lineage_trained AS SELECT * FROM trained t WHERE NOT EXISTS (
  SELECT 1 FROM attempt a WHERE a.attempt > t.attempt AND a.base_step < t.step);

CREATE VIEW lineage_weight_version AS
  SELECT * FROM weight_version w WHERE NOT EXISTS (
    SELECT 1 FROM attempt a
    WHERE a.attempt > w.attempt AND a.base_step < w.step);

CREATE VIEW lineage_episode AS
  SELECT e.* FROM episode e JOIN ledger l ON l.episode = e.id;
)sql";

}  // namespace temper

#endif  // LEARNER_STORE_RUN_DB_VERSION2_H_
