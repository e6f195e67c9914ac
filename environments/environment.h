// A world the model acts in. One Environment object is ONE episode: Reset gives
// the prompt, Step answers the model's tool calls, Grade says what came of it.
// It never sees tokens; text and JSON are its whole world.
//
// Threading: an episode is used by one thread at a time, not always the same
// one; different episodes run at once. Every method may block (a sandbox, a
// network), and each implementation bounds how long.
//
// Errors: a Status is the environment's own failure, never the model's. What
// the model does wrong comes back as a ToolResult or a Verdict. The caller maps
//   Unavailable, DeadlineExceeded  -> OUTCOME_SANDBOX_ERROR, tried again;
//   any other error                -> OUTCOME_ENVIRONMENT_ERROR;
// both end the episode without a reward. After an error the episode may only be
// destroyed.
//
// To add one: copy environments/example; example.h there says, step by step,
// what else to touch.

#ifndef ENVIRONMENTS_ENVIRONMENT_H_
#define ENVIRONMENTS_ENVIRONMENT_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "environments/step_limits.h"
#include "proto/task.pb.h"

namespace temper {

class SandboxPool;

// Where an environment's episodes run when `temper train` starts the processes.
enum class ServedIn {
  kWorker,      // in the rollout worker: cheap, needs nothing
  kHost,        // in an environment host: runs untrusted code
  kRegistered,  // where its entry of a registry file says (registration.proto)
};

// How long a call of each kind may take for who asks another process: past it
// that process hangs. 0: it bounds its calls itself.
struct EnvironmentLimits {
  int64_t reset_ms = 30'000;  // and Validate
  int64_t step_ms = std::chrono::milliseconds(kStepMax).count();
  int64_t grade_ms = std::chrono::milliseconds(kStepMax).count();
};

// An episode whose verdict is known beforehand; an assistant's message `answer`
// ends it. Good ones are correct, all others are not.
struct SelfTestCase {
  enum class Kind {
    kGood,
    kBad,     // tried, and is wrong
    kEmpty,   // did not try
    kAttack,  // would rather be paid than right
  };
  std::string name;
  Kind kind = Kind::kGood;
  Task task;
  std::string answer;
  // Why this machine cannot run the task, if so. Null: every machine can.
  absl::Status (*runs_here)() = nullptr;
};

// What is known of an environment before any episode.
struct EnvironmentFacts {
  const char* name = "";         // lower case, as Task.environment has it
  const char* description = "";  // one line
  // Same task, seed, calls and transcript: same messages, results, verdict.
  bool deterministic = false;
  ServedIn served_in = ServedIn::kWorker;
  // The factory refuses a context without sandboxes.
  bool needs_sandbox = false;
  EnvironmentLimits limits = {};  // where it is not served in the worker
  // Any number of Steps may be open at once (StartStep): they wait for
  // something else than who serves them.
  bool open_steps = false;
  // Of the longest result of a tool, a character counted as one: an episode is
  // to have room for it. 0: not known.
  int64_t result_tokens = 0;
  // Of one that grades code, with cases of every kind: it is fit if all come
  // out as they should (self_test.h). Null: it grades no code.
  std::vector<SelfTestCase> (*self_test)() = nullptr;
};

// What episodes may use. Everything is borrowed and outlives them.
struct EnvironmentContext {
  SandboxPool* sandboxes = nullptr;  // null: environments with code are refused
};

struct Observation {
  std::vector<Message> messages;  // what the model reads first; never empty
  std::vector<Tool> tools;        // what it may call; names are unique
};

// Limits that every implementation keeps.
inline constexpr uint32_t kToolCallsPerStepMax = 16;
inline constexpr uint32_t kToolArgumentsBytesMax = 64 << 10;
inline constexpr uint32_t kToolResultBytesMax = 64 << 10;

class Environment {
 public:
  virtual ~Environment() = default;
  Environment() = default;
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  virtual const EnvironmentFacts& facts() const = 0;

  // What Reset will show the model of `task`, as far as that is known without
  // an episode; where it depends on the seed, the longest that it may be.
  // InvalidArgument names the field that is wrong and what is allowed, or that
  // this machine lacks what the task needs. Needs nothing of the context,
  // starts no process, takes well below a millisecond, the first call aside: a
  // run asks it of all its tasks before any process is started. May be called
  // at any time, without Reset too.
  virtual absl::StatusOr<Observation> Validate(const Task& task) const = 0;

  // Starts the episode; called once, and of the calls below first. A task that
  // Validate refuses is refused alike. `seed` is all the randomness the episode
  // may use.
  virtual absl::StatusOr<Observation> Reset(const Task& task,
                                            uint64_t seed) = 0;

  // Answers `calls` in order, one result each, contents valid UTF-8 of at most
  // kToolResultBytesMax. An unknown tool, arguments that do not parse, or code
  // that fails is a result with TOOL_ERROR or TIMEOUT; the episode goes on.
  // InvalidArgument if there are more than kToolCallsPerStepMax calls.
  virtual absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) = 0;

  // Step that may go on without the thread that asks for it: `done` is called
  // once, on whatever thread, perhaps before this returns. The episode must
  // outlive that. Where facts().open_steps is false it is Step, and blocks.
  using StepDone = std::function<void(absl::StatusOr<std::vector<ToolResult>>)>;
  virtual void StartStep(const std::vector<ToolCall>& calls, StepDone done) {
    done(Step(calls));
  }

  // Grades an episode that ended as `outcome` with `transcript`, whose last
  // message is normally the model's answer. Called at most once, last. A
  // verdict with `verified` means that a verifier ran to its end. Its scores
  // are as proto/task.proto has them. An outcome that carries no reward is
  // InvalidArgument.
  virtual absl::StatusOr<Verdict> Grade(
      Outcome outcome, const std::vector<Message>& transcript) = 0;
};

}  // namespace temper

#endif  // ENVIRONMENTS_ENVIRONMENT_H_
