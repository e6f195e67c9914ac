// Nothing from outside reaches a terminal as it is: every verb that shows what
// others wrote, over a run.db, tasks, files and flags full of what a terminal
// would obey.

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/shown_text.h"
#include "learner/store/run_db.h"
#include "nlohmann/json.hpp"
#include "tests/trial_run.h"

namespace temper {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr int64_t kDeadlineMs = 120'000;
// Clears the screen, a C1 introducer, a direction override, a carriage return.
constexpr char kHostile[] = "A\x1b[2J\u009b2J\u202eevil\rB";
constexpr char kShown[] = "A\\x1b[2J\\u009b2J\\u202eevil\\rB";

// A line where one field is meant to be; with the two blanks that a message of
// several lines begins its further ones with.
constexpr char kForged[] = "\n  forged line";

// What a verb said, on stdout and stderr.
std::string Said(const std::vector<std::string>& args, int code) {
  TemperProcess process(kTemper, args, TrialPath("verb"));
  EXPECT_EQ(process.Wait(kDeadlineMs).value_or(-1), code) << process.err();
  return process.out() + process.err();
}

// `said` has no byte that acts, and no line that a field has begun.
void ExpectHarmless(const std::string& said) {
  EXPECT_TRUE(ShownLines(said) == said) << ShownLines(said);
  EXPECT_FALSE(absl::StrContains(said, kForged)) << said;
}

// The old run (version2_run/README.md) with hostile text in every column that
// somebody else fills.
std::string HostileRun() {
  const std::string dir = RunDir("hostile");
  fs::create_directories(dir);
  for (const char* file : {"/run.db", "/config.textproto", "/tasks.jsonl"}) {
    const absl::Status written = WriteFileDurably(
        dir + file, ReadAll(absl::StrCat("tests/version2_run/run", file)));
    EXPECT_TRUE(written.ok()) << written;
  }
  const auto db = RunDb::OpenWriter(dir + "/run.db", SystemClock());
  EXPECT_TRUE(db.ok()) << db.status();
  const std::string bad = absl::StrCat(kHostile, "\xff", kForged);
  const auto transaction = *(*db)->sqlite()->Begin();
  for (const char* sql :
       {"UPDATE run SET name = ?", "UPDATE grp SET task_id = ? || grp",
        "UPDATE episode SET task_id = ? || task_id",
        "UPDATE episode SET "
        "environment = ?",
        "UPDATE episode SET worker = ?", "UPDATE episode SET error = ?",
        "UPDATE episode SET answer = ?", "UPDATE turn SET role = ?",
        "UPDATE turn SET text = ?",
        "UPDATE metric SET name = 'reward/' || ? || '/mean' "
        "WHERE name = 'reward/math/mean'",
        "UPDATE event SET process = ?", "UPDATE event SET kind = ?",
        "UPDATE event SET detail = ?",
        "INSERT INTO wait VALUES (?1, ?1, 5, 10, 0)",
        "UPDATE ledger SET state = 'rejected', step = NULL, attempt = NULL, "
        "reason = ? WHERE grp = 1"}) {
    const absl::Status updated = transaction->Run(sql, {bad});
    EXPECT_TRUE(updated.ok()) << updated;
  }
  EXPECT_TRUE(transaction->Commit().ok());
  return dir;
}

TEST(TerminalOutputTest, InspectAndStatusShowEscapes) {
  const std::string dir = HostileRun();
  const std::vector<std::vector<std::string>> verbs = {
      {"status", dir},
      {"inspect", "steps", dir},
      {"inspect", "group", dir, "1"},
      {"inspect", "group", dir, "2"},
      {"inspect", "trajectory", dir, "3"}};
  for (const std::vector<std::string>& verb : verbs) {
    const std::string said = Said(verb, 0);
    EXPECT_THAT(said, HasSubstr(kShown)) << verb[0] << " " << verb[1];
    EXPECT_THAT(said, HasSubstr("\\xff")) << verb[0] << " " << verb[1];
    ExpectHarmless(said);
  }
}

TEST(TerminalOutputTest, JsonStaysJsonAndIsAsHarmless) {
  const std::string dir = HostileRun();
  const std::string said = Said({"inspect", "group", dir, "1", "--json"}, 0);
  ExpectHarmless(said);
  const auto document = nlohmann::json::parse(said, nullptr, false);
  ASSERT_FALSE(document.is_discarded()) << said;
  EXPECT_THAT(document["task_id"].get<std::string>(),
              AllOf(HasSubstr(kHostile), HasSubstr(kForged)));
  ExpectHarmless(Said({"status", dir, "--json"}, 0));
  ExpectHarmless(Said({"inspect", "trajectory", dir, "3", "--json"}, 0));
}

TEST(TerminalOutputTest, NamesOfFilesRunsAndVerbsInErrorsAreEscaped) {
  const std::string bad = absl::StrCat(kHostile, kForged);
  const std::string directory = TrialPath(bad);
  fs::create_directories(directory);
  ASSERT_TRUE(WriteFileDurably(TrialPath("key.textproto"),
                               absl::StrCat("model: \"", kHostile, "\"\n"))
                  .ok());
  // Their faults are told in a line each, which a task's id does not end.
  const std::string id = nlohmann::json(bad).dump();
  ASSERT_TRUE(WriteFileDurably(
                  TrialPath("bad_tasks.jsonl"),
                  absl::StrCat("{\"id\": ", id, ", \"environment\": \"no\"}\n",
                               "{\"id\": ", id, ", \"environment\": \"no\"}\n"))
                  .ok());
  const std::vector<std::vector<std::string>> verbs = {
      {bad},
      {"inspect", bad},
      {"status", bad},
      {"inspect", "runs", "--runs-dir", bad},
      {"inspect", "steps", TrialPath(bad)},
      {"train", bad},
      {"train", "--resume", bad},
      {"train", TrialPath("key.textproto"), "--set", absl::StrCat(bad, "=1")},
      {"train", TrialPath("key.textproto"), "--set", "steps=1"},
      {"config", "resolve", TrialPath("key.textproto"), "--set",
       absl::StrCat("steps=", bad)},
      {"config", "explain", bad},
      {"sft", bad},
      {"eval", bad},
      {"generate", bad, "--prompt", "1"},
      {"env", "test", bad, "--tasks", bad},
      {"env", "test", "math", "--tasks", bad},
      {"env", "test", "math", "--tasks", TrialPath("bad_tasks.jsonl")},
      {"status", "--no-such-flag", bad}};
  for (const std::vector<std::string>& verb : verbs) {
    ExpectHarmless(Said(verb, 2));
  }
}

// A task whose id and words are hostile, of a model that answers noise.
TEST(TerminalOutputTest, TrainAndEvalAndGenerateShowEscapes) {
  const std::string json = nlohmann::json(kHostile).dump();
  const std::string inner = json.substr(1, json.size() - 2);
  std::string tasks;
  for (const char* split : {"train", "heldout"}) {
    absl::StrAppend(
        &tasks, "{\"id\": \"", inner, "\\n  forged line", split,
        "\", \"environment\": \"math\", \"split\": \"", split,
        "\", \"messages\": [{\"role\": \"user\", \"content\": \"", inner,
        "\"}], \"payload_json\": \"{\\\"answer\\\": \\\"7\\\"}\"}\n");
  }
  ASSERT_TRUE(WriteFileDurably(TrialPath("tasks.jsonl"), tasks).ok());
  const std::string config = absl::StrCat(
      "model: \"tests/version2_run/model\"\ntasks: \"",
      TrialPath("tasks.jsonl"), "\"\nruns_dir: \"", TrialPath("runs"),
      "\"\nsteps: 1\nthreads: 1\n"
      "objective { group_size: 2 prompts_per_step: 1 }\n"
      "sampling { max_tokens: 16 max_turns: 1 }\n"
      "schedule { eval_tasks: 1 }\n");
  ASSERT_TRUE(WriteFileDurably(TrialPath("hostile.textproto"), config).ok());
  const std::string said =
      Said({"train", TrialPath("hostile.textproto"), "--name", "trained"}, 0);
  EXPECT_THAT(said, HasSubstr(absl::StrCat("--- before: ", kShown)));
  ExpectHarmless(said);
  ExpectHarmless(Said(
      {"eval", "tests/version2_run/model", TrialPath("hostile.textproto")}, 0));
  // Noise of 21,108 parameters holds every kind of byte sooner or later.
  for (const char* seed : {"1", "2", "3"}) {
    TemperProcess generate(kTemper,
                           {"generate", "tests/version2_run/model", "--prompt",
                            "1", "--max-tokens", "200", "--seed", seed},
                           TrialPath("verb"));
    ASSERT_TRUE(generate.Wait(kDeadlineMs).has_value());
    ExpectHarmless(generate.out() + generate.err());
  }
}

// The promise is kept by construction: nothing else writes to a terminal.
TEST(TerminalOutputTest, OnlyPrintWritesToATerminal) {
  int sources = 0;
  for (const auto& entry : fs::recursive_directory_iterator("tools")) {
    const std::string name = entry.path().filename().string();
    if (!absl::EndsWith(name, ".cc") || absl::EndsWith(name, "_test.cc")) {
      continue;
    }
    ++sources;
    const std::string text = ReadAll(entry.path().string());
    for (const char* writer :
         {" printf(", " fprintf(", " puts(", "fputs(", "putchar(", "fwrite(",
          "std::cout", "std::cerr", "perror(", "STDOUT_FILENO"}) {
      EXPECT_FALSE(absl::StrContains(text, writer))
          << name << " has" << writer << "; print by tools/cli/print.h";
    }
  }
  EXPECT_GT(sources, 20);
}

}  // namespace
}  // namespace temper
