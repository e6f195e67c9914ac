// Many episodes of one worker in long Steps of an environment elsewhere: none
// of them holds a thread, and what the engine samples beside them goes on.
//
//   open_episodes_test EPISODES    more than kFew: is measured and printed too,
//                                  some minutes
//
// Beside them the engine decodes for kDecoding sequences. It is the shipped
// model's, with pages for the 256 episodes that a worker's has; the open
// episodes' prompts are computed and lie in it, their calls are told to them.

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "environments/remote_environment.h"
#include "environments/testing/slow_host.h"
#include "gtest/gtest.h"
#include "kernels/base/clock.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/find_backend.h"
#include "kernels/model/chat/parser.h"
#include "kernels/model/chat/template.h"
#include "kernels/model/tokenizer_file.h"
#include "rollout/engine.h"
#include "rollout/episode_runner.h"
#include "rollout/job_pool.h"
#include "rollout/sampling_fixture.h"
#include "rollout/worker.h"
#include "tests/trial_model.h"

namespace temper {
namespace {

constexpr int64_t kFew = 300;
constexpr int kDecoding = 64;
constexpr int64_t kDecodedTokens = 256;  // of each
constexpr int kRounds = 3;
constexpr int kWindows = 3;  // of each kind in a round
constexpr auto kStep = std::chrono::seconds(5);
constexpr char kCall[] =
    "</think>\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"wait\">\n"
    "<｜DSML｜parameter name=\"a\" string=\"false\">1</｜DSML｜parameter>\n"
    "</｜DSML｜invoke>\n</｜DSML｜function_calls><｜end▁of▁sentence｜>";

int64_t episodes = kFew;  // set in main

double MedianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double Seconds() {
  return static_cast<double>(SystemClock()->MonotonicMicros()) * 1e-6;
}

// CPU time of this process: the host's and all threads' of the client too.
// Other than wall time it is the same beside other work.
double CpuSeconds() {
  timespec now = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) +
         static_cast<double>(now.tv_nsec) * 1e-9;
}

// A number of /proc/self/status, as it stands there.
int64_t Status(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name + ":", 0) == 0) {
      return std::strtoll(line.c_str() + name.size() + 1, nullptr, 10);
    }
  }
  return -1;
}

// The engine, whose sequences say at each turn what they are told to.
class ToldEngine : public SequenceEngine {
 public:
  ToldEngine(Engine* engine, std::vector<int32_t> turn)
      : engine_(engine), turn_(std::move(turn)) {}

  absl::StatusOr<int64_t> Open(const SequenceOptions& options) override {
    return engine_->Open(options);
  }
  absl::Status Extend(int64_t id, const std::vector<int32_t>& tokens,
                      int64_t) override {
    SequenceRecord& record = records_[id];
    const bool first = record.tokens.empty();
    record.tokens.insert(record.tokens.end(), tokens.begin(), tokens.end());
    if (first) return engine_->Extend(id, tokens, 1);
    told_.push_back(id);
    return absl::OkStatus();
  }
  absl::Status Stop(int64_t id) override { return engine_->Stop(id); }
  void Close(int64_t id) override {
    records_.erase(id);
    engine_->Close(id);
  }
  absl::StatusOr<std::vector<StoppedSequence>> Step() override {
    auto stopped = engine_->Step();
    if (!stopped.ok()) return stopped;
    for (const StoppedSequence& of_engine : *stopped) {
      if (records_.count(of_engine.id) > 0) told_.push_back(of_engine.id);
    }
    stopped->clear();
    for (const int64_t id : std::exchange(told_, {})) {
      SequenceRecord& record = records_[id];
      record.tokens.insert(record.tokens.end(), turn_.begin(), turn_.end());
      stopped->push_back({id, StopReason::kStopToken});
    }
    return stopped;
  }
  const SequenceRecord& record(int64_t id) const override {
    return records_.at(id);
  }
  bool has_running() const override {
    return !told_.empty() || engine_->has_running();
  }
  const ModelConfig& config() const override { return engine_->config(); }

 private:
  Engine* const engine_;
  const std::vector<int32_t> turn_;
  std::map<int64_t, SequenceRecord> records_;
  std::vector<int64_t> told_;  // whose turn ends at the next Step
};

class OpenEpisodesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SetFlushDenormals();
    // One, for threads that wait for one another would cost CPU time.
    backend_ = *FindBackend({.name = "", .threads = 1});
    model_ = QuickstartTrialModel();
    weights_ = WeightsOf(backend_.get(), model_);
    EngineOptions options;
    options.pages = 256 * 5 + 64;
    options.sequences_max = episodes + kDecoding;
    options.sample_rows_max = 256;
    engine_ = *Engine::Create(backend_.get(), weights_.get(), 1, options);
    tokenizer_ = *LoadTokenizer("tools/quickstart_model/tokenizer.json");
    chat_template_ = *ChatTemplate::Create(tokenizer_.get());
    chat_parser_ = *ChatParser::Create(tokenizer_.get());
    reward_ = *Reward::Create(FixtureRewards());
    told_ = std::make_unique<ToldEngine>(
        engine_.get(), *tokenizer_->Encode(kCall, SpecialMatching::kOn));
    client_ = std::make_unique<EnvironmentClient>(
        [this] { return host_.address(); }, RemoteEnvironmentOptions());
    Begin();
  }

  void TearDown() override { End(); }

  // A runner without episodes, whose Steps stay open until the host is told.
  void Begin() {
    host_.Answer(std::chrono::hours(1));
    jobs_ =
        std::make_unique<JobPool>(kJobThreads, static_cast<int>(2 * episodes));
    EpisodeServices services;
    services.engine = told_.get();
    services.tokenizer = tokenizer_.get();
    services.chat_template = chat_template_.get();
    services.chat_parser = chat_parser_.get();
    services.reward = reward_.get();
    services.jobs = jobs_.get();
    services.new_environment = [this](const std::string&) {
      return client_->NewEnvironment(&SlowHost::facts());
    };
    services.lanes = {{"slow", "slow"}};
    runner_ =
        std::make_unique<EpisodeRunner>(services, static_cast<int>(episodes));
  }

  // Ends it, and all that its episodes have open.
  void End() {
    host_.Answer(std::chrono::milliseconds(0));
    runner_.reset();
    jobs_.reset();
  }

  // Until so many episodes are in a Step at a time.
  void OpenUpTo(int64_t count) {
    while (runner_->running() < count) {
      EpisodeSpec spec;
      spec.key.set_run("r");
      spec.key.set_group(1);
      spec.key.set_sample(static_cast<uint32_t>(runner_->running()));
      spec.task.set_id("t");
      spec.task.set_environment("slow");
      spec.task.add_messages()->set_role("user");
      spec.task.mutable_messages(0)->set_content(
          "A question that is as long as those of the quickstart are.");
      spec.sampling = FixtureSampling(/*max_tokens=*/2000, /*max_turns=*/256);
      ASSERT_TRUE(runner_->Add(std::move(spec)).ok());
      Advance();
    }
    while (host_.open_steps() < count) Advance();
  }

  void Advance() {
    const auto ended = runner_->Advance(1000);
    ASSERT_TRUE(ended.ok()) << ended.status();
    ASSERT_TRUE(ended->empty());
  }

  // Tokens a CPU second of kDecoding sequences, from prompts to ends.
  double Decode() {
    const double begin = CpuSeconds();
    std::vector<int64_t> ids;
    for (int i = 0; i < kDecoding; ++i) {
      SequenceOptions options;
      options.key = {.seed = 1, .group = 2, .sample = static_cast<uint32_t>(i)};
      options.stop_token = -1;
      ids.push_back(*engine_->Open(options));
      CHECK(engine_
                ->Extend(ids.back(), model_.conversations[i].prompt,
                         kDecodedTokens)
                .ok());
    }
    while (engine_->has_running()) {
      if (runner_ != nullptr) {
        Advance();
      } else {
        CHECK(engine_->Step().ok());
      }
    }
    const double seconds = CpuSeconds() - begin;
    for (const int64_t id : ids) engine_->Close(id);
    return kDecoding * kDecodedTokens / seconds;
  }

  double Alone() {
    std::vector<double> rates;
    for (int i = 0; i < kWindows; ++i) rates.push_back(Decode());
    return MedianOf(rates);
  }

  SlowHost host_;
  TrialModel model_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<PublishedWeights> weights_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::unique_ptr<ChatParser> chat_parser_;
  std::unique_ptr<Reward> reward_;
  std::unique_ptr<ToldEngine> told_;
  std::unique_ptr<EnvironmentClient> client_;
  std::unique_ptr<JobPool> jobs_;
  std::unique_ptr<EpisodeRunner> runner_;
};

TEST_F(OpenEpisodesTest, OpenStepsTakeNoThreads) {
  OpenUpTo(10);
  const int64_t before = Status("Threads");
  OpenUpTo(episodes);
  EXPECT_EQ(runner_->in_open_step(), episodes);
  EXPECT_EQ(host_.open_steps(), episodes);
  // gRPC's may come and go; a thread an episode would be hundreds.
  EXPECT_LT(Status("Threads") - before, 32);
  // They go on.
  host_.Answer(std::chrono::milliseconds(100));
  while (host_.answered() < 2 * episodes) Advance();
}

TEST_F(OpenEpisodesTest, DecodingGoesOnBesideThem) {
  if (episodes <= kFew) GTEST_SKIP() << "measured with tools/test.sh --long";
  End();
  Decode();
  double alone_before = Alone();
  int64_t rss = 0, threads = 0, answers = 0;
  double alone = 0, answering_seconds = 0;
  std::vector<double> pending, answering;  // of what alone there was about then
  // By turns: how fast a machine is changes within a minute.
  for (int round = 0; round < kRounds; ++round) {
    Begin();
    const int64_t rss_before = Status("VmRSS");
    OpenUpTo(episodes);
    if (round == 0) rss = Status("VmRSS") - rss_before;
    std::vector<double> waiting, busy;
    for (int i = 0; i < kWindows; ++i) {
      host_.Answer(std::chrono::hours(1));
      waiting.push_back(Decode());
      host_.Answer(kStep);
      const int64_t answered = host_.answered();
      const double begin = Seconds();
      busy.push_back(Decode());
      answering_seconds += Seconds() - begin;
      answers += host_.answered() - answered;
    }
    threads = std::max(threads, Status("Threads"));
    End();
    const double alone_after = Alone();
    alone = (std::exchange(alone_before, alone_after) + alone_after) / 2;
    pending.push_back(MedianOf(waiting) / alone);
    answering.push_back(MedianOf(busy) / alone);
  }
  const auto line =
      absl::StrCat("decode of ", kDecoding, ", tokens a CPU second: ", alone,
                   " alone, ", absl::StrJoin(pending, ", "), " of it beside ",
                   episodes, " in a Step, ", absl::StrJoin(answering, ", "),
                   " while ", static_cast<double>(answers) / answering_seconds,
                   " Steps a second end and begin; ", rss * 1024 / episodes,
                   " bytes an open episode, ", threads, " threads");
  std::cout << line << std::endl;
  RecordProperty("measured", line);
  // Rates are for the reader: they are the machine's too. These are not.
  EXPECT_LT(rss * 1024 / episodes, 128 << 10);
  EXPECT_LT(threads, 64);
  EXPECT_GT(answers, 0);
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (argc > 1) temper::episodes = std::strtoll(argv[1], nullptr, 10);
  return RUN_ALL_TESTS();
}
