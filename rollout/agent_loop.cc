#include "rollout/agent_loop.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/rng.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/episode_limit.h"
#include "proto/wire/outcome.h"
#include "proto/wire/packed_array.h"
#include "proto/wire/trajectory_stream.h"
#include "rollout/branch.h"
#include "rollout/sampler.h"

namespace temper {
namespace {

int64_t NowUs() { return SystemClock()->MonotonicMicros(); }

// The one place of defaults is the table of configuration keys, above us.
absl::Status CheckWhole(const SamplingConfig& sampling) {
  const auto* const fields = SamplingConfig::descriptor();
  for (int i = 0; i < fields->field_count(); ++i) {
    if (!sampling.GetReflection()->HasField(sampling, fields->field(i))) {
      return absl::InvalidArgumentError(
          absl::StrCat("sampling lacks ", fields->field(i)->name(),
                       "; give it as a resolved configuration has it"));
    }
  }
  return absl::OkStatus();
}

SampleOptions OptionsOf(const SamplingConfig& sampling) {
  SampleOptions options;
  options.temperature = static_cast<float>(sampling.temperature());
  options.top_p = static_cast<float>(sampling.top_p());
  options.top_k =
      static_cast<int32_t>(std::min<uint32_t>(sampling.top_k(), 1u << 30));
  options.min_p = static_cast<float>(sampling.min_p());
  options.kept_max = kKeptMax;
  return options;
}

// A stream of its own: what the environment draws must not move what the model
// samples.
uint64_t EnvironmentSeed(const EpisodeSpec& spec) {
  const auto words = RandomWords({spec.seed, RngPurpose::kEpisode,
                                  spec.key.group(), spec.key.sample(), 0});
  return uint64_t{words[0]} << 32 | words[1];
}

}  // namespace

absl::Status ValidateEpisodeSpec(const EpisodeSpec& spec) {
  RETURN_IF_ERROR(CheckWhole(spec.sampling));
  const uint32_t turns = spec.sampling.max_turns();
  const uint32_t tokens = spec.sampling.max_tokens();
  if (turns < 1 || turns > kEpisodeTurnsMax || tokens < 1 ||
      tokens > kEpisodeTokensMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_turns ", turns, " and max_tokens ", tokens, " must be in [1, ",
        kEpisodeTurnsMax, "] and [1, ", kEpisodeTokensMax, "]"));
  }
  // The counter of a random stream has so many bits for it
  // (kernels/base/rng.h): two groups above would share their numbers.
  if (spec.key.group() >= uint64_t{1} << 48) {
    return absl::InvalidArgumentError(
        absl::StrCat("group ", spec.key.group(), " is not below 2^48"));
  }
  return ValidateSampleOptions(OptionsOf(spec.sampling));
}

AgentLoop::AgentLoop(EpisodeSpec spec, const EpisodeServices* services,
                     int64_t tag)
    : spec_(std::move(spec)), services_(services), tag_(tag), work_(NewWork()) {
  trajectory_.set_wire_version(kWireVersion);
  *trajectory_.mutable_key() = spec_.key;
  trajectory_.set_purpose(spec_.purpose);
  trajectory_.set_task_id(spec_.task.id());
  trajectory_.set_environment(spec_.task.environment());
  trajectory_.set_domain(spec_.task.domain());
  trajectory_.set_seed(spec_.seed);
  trajectory_.set_worker(services_->worker);
}

AgentLoop::~AgentLoop() {
  if (sequence_ != 0) services_->engine->Close(sequence_);
}

std::shared_ptr<AgentLoop::Work> AgentLoop::NewWork() const {
  // Whoever lets go of it last, it ends in the pool: to end a remote
  // environment is a call, for which neither the engine's thread waits nor one
  // of the environment's.
  const auto end = [jobs = services_->jobs, lane = Lane()](Work* work) {
    jobs->Release(std::shared_ptr<Work>(work), lane);
  };
  return std::shared_ptr<Work>(new Work, end);
}

std::string AgentLoop::Lane() const {
  const auto found = services_->lanes.find(spec_.task.environment());
  return found == services_->lanes.end() ? "" : found->second;
}

ChatMode AgentLoop::mode() const {
  return spec_.sampling.thinking() ? ChatMode::kThinking : ChatMode::kChat;
}

void AgentLoop::Post(Call call, std::function<void(Work*)> run) {
  state_ = State::kEnvironment;
  call_ = call;
  waiting_since_us_ = NowUs();
  // By a shared reference, and never through `this`: a cancelled episode may be
  // gone while its job still runs.
  const absl::Status status = services_->jobs->Post(
      tag_,
      [work = work_, run = std::move(run)] {
        work->begun_us = NowUs();
        run(work.get());
      },
      Lane());
  if (!status.ok()) FailInfra(status);
}

void AgentLoop::Start() {
  Post(Call::kReset, [factory = services_->new_environment,
                      refusals = services_->task_refusals, task = spec_.task,
                      seed = EnvironmentSeed(spec_)](Work* work) {
    auto environment = factory(task.environment());
    work->status = environment.status();
    if (environment.ok()) {
      work->environment = *std::move(environment);
      work->status = refusals->Check(task, *work->environment);
      work->task_refused = absl::IsInvalidArgument(work->status);
    }
    if (work->status.ok()) {
      auto observation = work->environment->Reset(task, seed);
      work->status = observation.status();
      if (observation.ok()) work->observation = *std::move(observation);
    }
    work->ended_us = NowUs();
  });
}

void AgentLoop::OnJobDone() {
  // Cancelled while the job was out.
  if (state_ != State::kEnvironment) return;
  NoteCall();
  if (!work_->status.ok()) return FailInfra(work_->status);
  switch (call_) {
    case Call::kReset:
      return OnReset();
    case Call::kStep:
      return OnResults();
    case Call::kGrade:
      return OnGraded();
  }
}

void AgentLoop::NoteCall() {
  const auto spent = [](int64_t from, int64_t to) {
    return static_cast<uint64_t>(std::max<int64_t>(0, to - from));
  };
  EnvironmentCall* const call = trajectory_.add_environment_calls();
  call->set_kind(static_cast<EnvironmentCallKind>(call_));
  call->set_wait_us(spent(waiting_since_us_, work_->begun_us));
  call->set_run_us(spent(work_->begun_us, work_->ended_us));
  trajectory_.set_environment_us(trajectory_.environment_us() + call->run_us());
}

void AgentLoop::OnReset() {
  const Observation& observation = work_->observation;
  transcript_ = observation.messages;
  prompt_messages_ = transcript_.size();
  ChatOptions options;
  options.mode = mode();
  const auto rendered = services_->chat_template->RenderPrompt(
      observation.messages, observation.tools, options);
  if (!rendered.ok()) return FailInfra(rendered.status());
  SequenceOptions sequence;
  sequence.key = {spec_.seed, spec_.key.group(), spec_.key.sample()};
  sequence.sampling = OptionsOf(spec_.sampling);
  sequence.mask = spec_.mask;
  sequence.stop_token = services_->chat_template->eos_id();
  const auto opened = services_->engine->Open(sequence);
  if (!opened.ok()) return FailInfra(opened.status());
  sequence_ = *opened;
  const int64_t size = static_cast<int64_t>(rendered->size());
  // All of them the same range: the template merges messages, and where one
  // ends in tokens is not defined.
  for (const Message& message : observation.messages) {
    AddTurn(message.role(), message.content(), 0, size);
  }
  const absl::Status status = services_->engine->Extend(
      sequence_, *rendered, spec_.sampling.max_tokens());
  if (!status.ok()) return FailInfra(status);
  turn_begin_ = size;
  generate_begin_us_ = NowUs();
  state_ = State::kGenerating;
}

void AgentLoop::OnStopped(StopReason reason) {
  CHECK(state_ == State::kGenerating) << "nothing was being sampled";
  trajectory_.set_generate_us(trajectory_.generate_us() + NowUs() -
                              generate_begin_us_);
  ++assistant_turns_;
  // The tokens are the record and the text is a view of them: the parser reads
  // ids, so that a text which merely looks like a special token is none.
  const SequenceRecord& record = services_->engine->record(sequence_);
  const std::vector<int32_t> ids(record.tokens.begin() + turn_begin_,
                                 record.tokens.end());
  AddTurn("assistant", TextOf(ids), turn_begin_, record.size());
  // Cut off, whatever it looks like: without its end token a message is not one
  // of the format.
  if (reason == StopReason::kLength) {
    AddUnparsed(ids);
    return Grade(OUTCOME_TRUNCATED);
  }
  auto message = services_->chat_parser->Parse(ids, mode());
  if (!message.ok()) {
    trajectory_.set_error(std::string(message.status().message()));
    AddUnparsed(ids);
    return Grade(OUTCOME_MODEL_ERROR);
  }
  OnMessage(*std::move(message));
}

// What is not a message of the format must not be mistaken for an answer: its
// text is shown to graders as reasoning.
void AgentLoop::AddUnparsed(const std::vector<int32_t>& ids) {
  Message message;
  message.set_role("assistant");
  message.set_reasoning_content(TextOf(ids));
  transcript_.push_back(std::move(message));
}

void AgentLoop::OnMessage(Message message) {
  calls_.assign(message.tool_calls().begin(), message.tool_calls().end());
  transcript_.push_back(std::move(message));
  if (calls_.empty()) return Grade(OUTCOME_OK);
  // Limits that the door and the wire set too. Met here they are the model's
  // fault and are graded; met there the group would be lost.
  for (const ToolCall& call : calls_) {
    if (call.name().size() > kNameBytesMax) {
      trajectory_.set_error(absl::StrCat("a tool call's name has ",
                                         call.name().size(), " bytes; at most ",
                                         kNameBytesMax));
      return Grade(OUTCOME_MODEL_ERROR);
    }
    if (call.arguments_json().size() > kToolArgumentsBytesMax) {
      trajectory_.set_error(absl::StrCat(
          "a tool call's arguments have ", call.arguments_json().size(),
          " bytes; at most ", kToolArgumentsBytesMax));
      return Grade(OUTCOME_MODEL_ERROR);
    }
  }
  if (calls_.size() > kToolCallsPerStepMax) {
    trajectory_.set_error(absl::StrCat(calls_.size(),
                                       " tool calls in one message; at most ",
                                       kToolCallsPerStepMax));
    return Grade(OUTCOME_MODEL_ERROR);
  }
  const int64_t sampled = services_->engine->record(sequence_).sampled_count();
  // After the limits on calls: a last message that is malformed is MODEL_ERROR,
  // also at the last turn.
  if (assistant_turns_ >= spec_.sampling.max_turns() ||
      sampled >= spec_.sampling.max_tokens()) {
    return Grade(OUTCOME_TRUNCATED);
  }
  PostStep();
}

void AgentLoop::PostStep() {
  state_ = State::kEnvironment;
  call_ = Call::kStep;
  open_steps_ = work_->environment->facts().open_steps;
  waiting_since_us_ = NowUs();
  const auto step = [work = work_, calls = calls_](JobPool::Finish finish) {
    work->begun_us = NowUs();
    auto done = [work = work, finish = std::move(finish)](
                    absl::StatusOr<std::vector<ToolResult>> results) mutable {
      work->status = results.status();
      if (results.ok()) work->results = *std::move(results);
      work->ended_us = NowUs();
      work.reset();  // the pool may be gone after finish()
      finish();
    };
    work->environment->StartStep(calls, std::move(done));
  };
  const absl::Status status =
      open_steps_ ? services_->jobs->PostOpen(tag_, step, Lane())
                  : services_->jobs->Post(
                        tag_, [step] { step([] {}); }, Lane());
  if (!status.ok()) FailInfra(status);
}

void AgentLoop::OnResults() {
  if (work_->results.size() != calls_.size()) {
    return FailInfra(absl::InternalError(absl::StrCat(
        "environment ", spec_.task.environment(), " gave ",
        work_->results.size(), " results for ", calls_.size(), " calls")));
  }
  // The assistant's message that made the calls is the last turn there is.
  const uint32_t turn = static_cast<uint32_t>(trajectory_.turns_size()) - 1;
  std::vector<std::string> contents;
  for (size_t i = 0; i < calls_.size(); ++i) {
    ToolCallRecord* const record = trajectory_.add_tool_calls();
    record->set_turn(turn);
    *record->mutable_call() = calls_[i];
    *record->mutable_result() = work_->results[i];
    contents.push_back(work_->results[i].content());
    Message message;
    message.set_role("tool");
    message.set_content(contents.back());
    transcript_.push_back(std::move(message));
  }
  const auto tokens = services_->chat_template->ToolResults(contents, mode());
  if (!tokens.ok()) return FailInfra(tokens.status());
  const SequenceRecord& record = services_->engine->record(sequence_);
  const int64_t begin = record.size();
  const int64_t end = begin + static_cast<int64_t>(tokens->size());
  const absl::Status status = services_->engine->Extend(
      sequence_, *tokens, spec_.sampling.max_tokens() - record.sampled_count());
  // The model wrote itself to the end of its room; with shorter calls it would
  // have fitted.
  if (status.code() == absl::StatusCode::kResourceExhausted) {
    return Grade(OUTCOME_TRUNCATED);
  }
  if (!status.ok()) return FailInfra(status);
  AddTurn("tool", TextOf(*tokens), begin, end);
  turn_begin_ = end;
  generate_begin_us_ = NowUs();
  state_ = State::kGenerating;
}

void AgentLoop::Grade(Outcome outcome) {
  trajectory_.set_outcome(outcome);
  const uint64_t sampled = static_cast<uint64_t>(
      services_->engine->record(sequence_).sampled_count());
  Post(Call::kGrade, [outcome, sampled, transcript = transcript_,
                      prompt_messages = prompt_messages_,
                      thinking = spec_.sampling.thinking(),
                      reward = services_->reward](Work* work) {
    auto verdict = work->environment->Grade(outcome, transcript);
    work->status = verdict.status();
    work->ended_us = NowUs();
    if (!verdict.ok()) return;
    work->verdict = *std::move(verdict);
    // An environment that has nothing to say of the outcome leaves the loop's.
    if (work->verdict.outcome() == OUTCOME_UNSPECIFIED) {
      work->verdict.set_outcome(outcome);
    }
    // Promise P4: no verifier, no reward.
    if (!work->verdict.verified() || !IsGraded(work->verdict.outcome())) return;
    auto parts = reward->Score(
        {transcript, prompt_messages, work->verdict, sampled, thinking});
    work->status = parts.status();
    if (parts.ok()) work->reward_parts = *std::move(parts);
    work->reward_us = NowUs() - work->ended_us;
  });
}

void AgentLoop::OnGraded() {
  const Verdict& verdict = work_->verdict;
  trajectory_.set_outcome(verdict.outcome());
  *trajectory_.mutable_verdict() = verdict;
  // They are parts of the reward from here on.
  trajectory_.mutable_verdict()->clear_scores();
  if (IsGraded(verdict.outcome()) && verdict.verified()) {
    trajectory_.set_has_reward(true);
    for (const RewardPart& part : work_->reward_parts) {
      *trajectory_.add_reward_parts() = part;
    }
    trajectory_.set_reward(Reward::Sum(work_->reward_parts));
  } else if (IsGraded(verdict.outcome())) {
    // No verifier ran to its end, so nothing may be trained on.
    return FailInfra(absl::InternalError(
        absl::StrCat("environment ", spec_.task.environment(),
                     " gave no verdict: ", verdict.detail())));
  }
  Finish();
}

void AgentLoop::FailInfra(const absl::Status& status) {
  // DESIGN.md section 10: the only two that may do better another time.
  const bool again = status.code() == absl::StatusCode::kUnavailable ||
                     status.code() == absl::StatusCode::kDeadlineExceeded;
  trajectory_.set_outcome(again ? OUTCOME_SANDBOX_ERROR
                                : OUTCOME_ENVIRONMENT_ERROR);
  trajectory_.set_task_refused(work_->task_refused);
  trajectory_.set_error(
      work_->task_refused
          ? absl::StrCat("its environment refuses it: ", status.message())
          : status.ToString());
  Finish();
}

void AgentLoop::Cancel(const std::string& why) {
  if (state_ == State::kDone) return;
  trajectory_.set_outcome(OUTCOME_CANCELLED);
  trajectory_.set_error(why);
  // A job that is out keeps its own reference and may still be writing, or has
  // just let go of it.
  if (state_ == State::kEnvironment) work_ = NewWork();
  if (state_ == State::kGenerating) {
    const absl::Status stopped = services_->engine->Stop(sequence_);
    if (!stopped.ok()) {
      // Without its routes there is no branch, and nothing of it is trained.
      trajectory_.set_error(absl::StrCat(why, "; ", stopped.ToString()));
      services_->engine->Close(std::exchange(sequence_, 0));
    }
  }
  Finish();
}

void AgentLoop::Finish() {
  state_ = State::kDone;
  trajectory_.set_reward_us(work_->reward_us);
  if (sequence_ == 0) return;
  const SequenceRecord& record = services_->engine->record(sequence_);
  // Without a sampled token there is nothing to train on and no branch.
  if (record.sampled_count() > 0) {
    *trajectory_.add_branches() =
        PackBranch(record, services_->engine->config());
    const auto size = static_cast<int64_t>(
        PackedCount<int32_t>(trajectory_.branches(0).tokens()));
    // Views of tokens that were never answered go with them.
    while (!trajectory_.turns().empty() &&
           trajectory_.turns().rbegin()->token_end() > size) {
      trajectory_.mutable_turns()->RemoveLast();
    }
  }
  services_->engine->Close(sequence_);
  sequence_ = 0;
}

void AgentLoop::AddTurn(const std::string& role, const std::string& text,
                        int64_t token_begin, int64_t token_end) {
  Turn* const turn = trajectory_.add_turns();
  turn->set_role(role);
  turn->set_text(text);
  turn->set_token_begin(static_cast<uint32_t>(token_begin));
  turn->set_token_end(static_cast<uint32_t>(token_end));
}

std::string AgentLoop::TextOf(const std::vector<int32_t>& ids) const {
  std::vector<int32_t> known;
  // A model's vocabulary may be larger than its tokenizer's: such ids are
  // sampled, trained on, and have no text.
  std::copy_if(ids.begin(), ids.end(), std::back_inserter(known),
               [this](int32_t id) {
                 return services_->tokenizer->TokenBytes(id) != nullptr;
               });
  const auto text = services_->tokenizer->Decode(known);
  CHECK(text.ok()) << text.status().ToString();
  return *text;
}

Trajectory AgentLoop::Take() {
  CHECK(state_ == State::kDone) << "the episode goes on";
  return std::move(trajectory_);
}

}  // namespace temper
