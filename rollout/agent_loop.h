// One episode, from a task to a Trajectory: render the prompt, let the engine
// sample a turn, parse it strictly on ids, run its tool calls in the
// environment, append the results, and so on until the model answers or a limit
// is met; then grade and reward.
//
// What may block runs in the job pool, the end of the environment included (for
// a remote one a call). The object itself is a state machine that only the
// engine's thread touches, and that depends on nothing but its own tokens and
// the environment's answers: never on how long those took.
//
//   kEnvironment  a job is out (Reset, Step or Grade): OnJobDone comes next
//   kGenerating   its sequence is running in the engine: OnStopped comes next
//   kDone         Take() has the trajectory
//
// How it ends: an answer is OK; a limit (max_tokens, max_turns, the engine's
// capacity) TRUNCATED; a malformed message MODEL_ERROR; these are graded. The
// environment's own failures are SANDBOX_ERROR (Unavailable, DeadlineExceeded)
// or ENVIRONMENT_ERROR; these carry no reward (promise P4). A task that the
// environment refuses (TaskRefusals) is an ENVIRONMENT_ERROR marked as such: it
// is not tried again.

#ifndef ROLLOUT_AGENT_LOOP_H_
#define ROLLOUT_AGENT_LOOP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "environments/environment.h"
#include "kernels/model/chat/parser.h"
#include "kernels/model/chat/template.h"
#include "kernels/model/tokenizer.h"
#include "proto/config.pb.h"
#include "proto/trajectory.pb.h"
#include "rewards/reward.h"
#include "rollout/job_pool.h"
#include "rollout/sequence_engine.h"
#include "rollout/task_refusals.h"

namespace temper {

// A new episode of the named environment, wherever it runs. Thread-safe.
using EnvironmentFactory =
    std::function<absl::StatusOr<std::unique_ptr<Environment>>(
        const std::string& name)>;

// What all episodes of a process share. What is pointed to is borrowed and
// outlives them.
struct EpisodeServices {
  SequenceEngine* engine = nullptr;
  const Tokenizer* tokenizer = nullptr;
  const ChatTemplate* chat_template = nullptr;
  const ChatParser* chat_parser = nullptr;
  const Reward* reward = nullptr;
  JobPool* jobs = nullptr;
  EnvironmentFactory new_environment;
  // By environment, the lane of the job pool that its calls go in, where it is
  // not "": calls that hang are to hold up none of another lane.
  std::map<std::string, std::string> lanes;
  // Shared with jobs that a cancelled episode leaves behind.
  std::shared_ptr<TaskRefusals> task_refusals =
      std::make_shared<TaskRefusals>();
  std::string worker;  // named in trajectories
};

struct EpisodeSpec {
  TrajectoryKey key;
  Purpose purpose = PURPOSE_TRAIN;
  Task task;
  SamplingConfig sampling;  // whole, as resolving a configuration makes it
  SamplingMask mask = SamplingMask::kKeep;
  uint64_t seed = 0;  // of the run; the episode's own streams derive
};

// InvalidArgument names the field that is absent or out of range.
absl::Status ValidateEpisodeSpec(const EpisodeSpec& spec);

class AgentLoop {
 public:
  enum class State { kEnvironment, kGenerating, kDone };
  // Of its environment.
  enum class Call {
    kReset = ENVIRONMENT_CALL_RESET,
    kStep = ENVIRONMENT_CALL_STEP,
    kGrade = ENVIRONMENT_CALL_GRADE
  };

  // `tag` names the episode's jobs. `spec` is valid.
  AgentLoop(EpisodeSpec spec, const EpisodeServices* services, int64_t tag);
  // Closes its sequence. A job still out is left to itself; the environment is
  // released in the job pool.
  ~AgentLoop();
  AgentLoop(const AgentLoop&) = delete;
  AgentLoop& operator=(const AgentLoop&) = delete;

  void Start();
  void OnJobDone();
  void OnStopped(StopReason reason);
  // Ends it as CANCELLED, whatever it was doing.
  void Cancel(const std::string& why);

  State state() const { return state_; }
  const TrajectoryKey& key() const { return spec_.key; }
  const std::string& environment() const { return spec_.task.environment(); }
  // In kEnvironment: what it waits for, and since when, on the monotonic clock.
  Call call() const { return call_; }
  int64_t waiting_since_us() const { return waiting_since_us_; }
  // It waits for a Step that holds no thread (EnvironmentFacts::open_steps).
  bool in_open_step() const {
    return state_ == State::kEnvironment && call_ == Call::kStep && open_steps_;
  }
  // In kGenerating, the engine's sequence.
  int64_t sequence() const { return sequence_; }
  // In kDone, once.
  Trajectory Take();

 private:
  // What a job works on; shared so that a cancelled episode may go first.
  struct Work {
    std::unique_ptr<Environment> environment;
    absl::Status status;
    bool task_refused = false;
    Observation observation;
    std::vector<ToolResult> results;
    Verdict verdict;
    std::vector<RewardPart> reward_parts;
    // Of the last call, on the monotonic clock.
    int64_t begun_us = 0;
    int64_t ended_us = 0;
    int64_t reward_us = 0;
  };
  std::shared_ptr<Work> NewWork() const;
  void Post(Call call, std::function<void(Work*)> run);
  void PostStep();
  void NoteCall();
  void OnReset();
  void OnResults();
  void OnGraded();
  void OnMessage(Message message);
  void AddUnparsed(const std::vector<int32_t>& ids);
  void Grade(Outcome outcome);
  void FailInfra(const absl::Status& status);
  void Finish();
  void AddTurn(const std::string& role, const std::string& text,
               int64_t token_begin, int64_t token_end);
  std::string TextOf(const std::vector<int32_t>& ids) const;
  ChatMode mode() const;
  // Of the job pool.
  std::string Lane() const;

  const EpisodeSpec spec_;
  const EpisodeServices* const services_;
  const int64_t tag_;
  State state_ = State::kEnvironment;
  Call call_ = Call::kReset;
  int64_t waiting_since_us_ = 0;
  bool open_steps_ = false;  // of its environment; known at its first Step
  std::shared_ptr<Work> work_;
  int64_t sequence_ = 0;    // 0: none open
  int64_t turn_begin_ = 0;  // first token of the turn being sampled
  int64_t generate_begin_us_ = 0;
  uint32_t assistant_turns_ = 0;
  std::vector<Message> transcript_;
  size_t prompt_messages_ = 0;   // the first ones of transcript_
  std::vector<ToolCall> calls_;  // being answered
  Trajectory trajectory_;
};

}  // namespace temper

#endif  // ROLLOUT_AGENT_LOOP_H_
