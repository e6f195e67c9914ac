// The tables of run.db. Times are microseconds since 1970 UTC. Attempts count
// resumes: attempt a goes on from `base_step`, so steps above it that earlier
// attempts took no longer count; the views named lineage_* leave them out. An
// enum is a number in its table; the views named named_* add its name.
//
// The schema is a list of steps, each to a version. A fresh file takes all of
// them, a writer that opens an older file takes those it lacks, in one
// transaction: so both come to the same. Readers open every version from
// kRunDbVersionMin on as it is, and never change it: what a step adds they may
// use only where RunDb::version() has it.
//
// To change the schema: until a version is released, add statements to its
// step (ALTER TABLE ... ADD COLUMN, CREATE TABLE, CREATE VIEW; a view that is
// to differ is dropped first). After that, a new step and kRunDbVersion + 1. A
// step that was released is never edited: //tests:version2_run_test compares
// what it makes of a real old file with a fresh one.

#ifndef LEARNER_STORE_RUN_DB_SCHEMA_H_
#define LEARNER_STORE_RUN_DB_SCHEMA_H_

#include "learner/store/run_db_version2.h"

namespace temper {

// PRAGMA application_id: "TMPR". PRAGMA user_version: the schema's version.
inline constexpr int kRunDbApplicationId = 0x544D5052;
inline constexpr int kRunDbVersion = 5;     // what a writer leaves
inline constexpr int kRunDbVersionMin = 2;  // the oldest that can be read

// Which tasks the run is of and which of them failed; names of the enums: as in
// the proto files, without the prefix (a test compares). lineage_episode has
// them too.
inline constexpr char kRunDbToVersion3[] = R"sql(
-- A task of which a group was dropped for failures; once an attempt.
CREATE TABLE task_failure(
  id INTEGER PRIMARY KEY,           -- ascending in time
  attempt INTEGER NOT NULL,
  task_id TEXT NOT NULL,
  environment TEXT NOT NULL,
  reason TEXT NOT NULL,             -- the first
  at_us INTEGER NOT NULL,
  UNIQUE(attempt, task_id));

-- Of tasks.jsonl as the run began with it, hexadecimal; '': not known.
ALTER TABLE run ADD COLUMN tasks_sha256 TEXT NOT NULL DEFAULT '';

-- 1: the environment says that the task can never run (an outcome of
-- ENVIRONMENT_ERROR).
ALTER TABLE episode ADD COLUMN task_refused INTEGER NOT NULL DEFAULT 0;

CREATE VIEW outcome_names(value, name) AS VALUES
  (0, 'UNSPECIFIED'), (1, 'OK'), (2, 'TRUNCATED'), (3, 'MODEL_ERROR'),
  (4, 'TOOL_ERROR'), (5, 'TIMEOUT'), (6, 'SANDBOX_ERROR'),
  (7, 'ENVIRONMENT_ERROR'), (8, 'CANCELLED');

CREATE VIEW purpose_names(value, name) AS VALUES
  (0, 'UNSPECIFIED'), (1, 'TRAIN'), (2, 'EVAL');

CREATE VIEW named_grp AS SELECT g.*,
  (SELECT name FROM purpose_names WHERE value = g.purpose) AS purpose_name
  FROM grp g;

CREATE VIEW named_episode AS SELECT e.*,
  (SELECT name FROM purpose_names WHERE value = e.purpose) AS purpose_name,
  (SELECT name FROM outcome_names WHERE value = e.outcome) AS outcome_name,
  (SELECT name FROM outcome_names WHERE value = e.verdict_outcome)
    AS verdict_outcome_name
  FROM episode e;

CREATE VIEW named_tool_call AS SELECT t.*,
  (SELECT name FROM outcome_names WHERE value = t.outcome) AS outcome_name
  FROM tool_call t;

DROP VIEW lineage_episode;
CREATE VIEW lineage_episode AS
  SELECT e.* FROM named_episode e JOIN ledger l ON l.episode = e.id;
)sql";

// What the run is computed in and on: a resume may not change it. What was
// begun before there was a choice of device is of the CPU.
inline constexpr char kRunDbToVersion4[] = R"sql(
ALTER TABLE run ADD COLUMN numerics TEXT NOT NULL DEFAULT '';  -- '': not known
ALTER TABLE run ADD COLUMN device TEXT NOT NULL DEFAULT 'cpu'; -- or 'cuda'
)sql";

// How long calls of environments took, one by one.
inline constexpr char kRunDbToVersion5[] = R"sql(
CREATE TABLE environment_call(
  episode INTEGER NOT NULL REFERENCES episode(id),
  call INTEGER NOT NULL,            -- as they ended
  kind INTEGER NOT NULL,            -- EnvironmentCallKind of trajectory.proto
  wait_us INTEGER NOT NULL,         -- for a thread of the worker
  run_us INTEGER NOT NULL,
  PRIMARY KEY(episode, call)) WITHOUT ROWID;

CREATE VIEW environment_call_names(value, name) AS VALUES
  (0, 'UNSPECIFIED'), (1, 'RESET'), (2, 'STEP'), (3, 'GRADE');

CREATE VIEW named_environment_call AS SELECT c.*,
  (SELECT name FROM environment_call_names WHERE value = c.kind) AS kind_name
  FROM environment_call c;
)sql";

struct RunDbMigration {
  int to;  // the version it leads to, from the one before it in the list
  const char* sql;
};
inline constexpr RunDbMigration kRunDbMigrations[] = {
    {2, kRunDbToVersion2},
    {3, kRunDbToVersion3},
    {4, kRunDbToVersion4},
    {5, kRunDbToVersion5},
};

}  // namespace temper

#endif  // LEARNER_STORE_RUN_DB_SCHEMA_H_
