#include "learner/train/demonstration_source.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/model/bpe_trainer.h"

namespace temper {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kGood[] =
    R"({"messages": [{"role": "user", "content": "1 + 1?"}, )"
    R"({"role": "assistant", "reasoning_content": "add", "content": "2"}]})";
constexpr char kMute[] =
    R"({"messages": [{"role": "user", "content": "1 + 1?"}]})";

std::vector<uint64_t> Take(DemonstrationOrder order, uint64_t begin,
                           uint64_t count) {
  std::vector<uint64_t> taken;
  for (uint64_t i = 0; i < count; ++i) taken.push_back(order.At(begin + i));
  return taken;
}

TEST(DemonstrationOrderTest, EveryEpochHasEachOnceInItsOwnOrder) {
  const DemonstrationOrder order(/*seed=*/1, /*count=*/50);
  std::set<std::vector<uint64_t>> seen;
  std::vector<uint64_t> sorted;
  for (uint64_t i = 0; i < 50; ++i) sorted.push_back(i);
  seen.insert(sorted);
  for (uint64_t epoch = 0; epoch < 4; ++epoch) {
    std::vector<uint64_t> taken = Take(order, epoch * 50, 50);
    EXPECT_TRUE(seen.insert(taken).second) << epoch;
    std::sort(taken.begin(), taken.end());
    EXPECT_EQ(taken, sorted);
  }
}

TEST(DemonstrationOrderTest, TheOrderIsTheSeedsHoweverItIsAskedFor) {
  EXPECT_EQ(Take({1, 6}, 0, 12),
            (std::vector<uint64_t>{5, 3, 0, 4, 1, 2, 0, 5, 1, 3, 4, 2}));
  EXPECT_EQ(Take({2, 6}, 0, 6), (std::vector<uint64_t>{4, 5, 3, 2, 1, 0}));
  DemonstrationOrder order(1, 6);
  EXPECT_EQ(order.At(7), 5u);
  EXPECT_EQ(order.At(1), 3u);
  EXPECT_EQ(Take({1, 1}, 0, 3), (std::vector<uint64_t>{0, 0, 0}));
}

TEST(DemonstrationOrderTest, AnEndlessStreamIsTakenAsItComes) {
  EXPECT_EQ(Take({1, 0}, 7, 3), (std::vector<uint64_t>{7, 8, 9}));
}

// An endless stream of one demonstration, of two mixes.
class EndlessSource : public DemonstrationSource {
 public:
  uint64_t size() const override { return 0; }
  absl::Status CheckMix(const std::string& mix) const override {
    if (mix == "clean" || mix == "sloppy") return absl::OkStatus();
    return absl::InvalidArgumentError("mix " + mix + " is none");
  }
  absl::StatusOr<Demonstration> Get(const std::string&,
                                    uint64_t) const override {
    return (*DemonstrationsOfText("one", kGood))->Get("", 0);
  }
  std::string Place(uint64_t index) const override {
    return absl::StrCat("the stream's ", index);
  }
  std::string digest() const override { return ""; }
};

class DemonstrationsTest : public testing::Test {
 protected:
  DemonstrationsTest() {
    // Of bytes alone: a letter is a token.
    tokenizer_ = *Tokenizer::Create(*TrainBpe({}, BpeTrainerOptions()));
    chat_ = *ChatTemplate::Create(tokenizer_.get());
    model_.max_position_embeddings = 1 << 20;
    config_.set_demonstrations_per_step(2);
    AddStage();
  }

  SftStage* AddStage() {
    SftStage* stage = config_.add_stage();
    stage->set_steps(1);
    stage->set_preamble(true);
    return stage;
  }

  absl::StatusOr<DemonstrationTotals> Check(const DemonstrationSource& source,
                                            int64_t steps = 1) {
    return CheckDemonstrations(config_, steps, model_, chat_.get(), source,
                               [](uint64_t) { return true; });
  }

  // The message of checking a file of this text; "" if it is good.
  std::string Refusal(const std::string& text) {
    const auto source = DemonstrationsOfText("file", text);
    EXPECT_TRUE(source.ok()) << source.status();
    const auto totals = Check(**source);
    EXPECT_EQ(totals.ok() || absl::IsInvalidArgument(totals.status()), true);
    return std::string(totals.status().message());
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_;
  ModelConfig model_;
  SftConfig config_;
};

TEST_F(DemonstrationsTest, ABlankLineIsSkippedOnWindowsToo) {
  const auto source = DemonstrationsOfText(
      "file", absl::StrCat(kGood, "\r\n\r\n \t\r\n\n", kGood, "\r\n\r\n"));
  ASSERT_TRUE(source.ok()) << source.status();
  ASSERT_EQ((*source)->size(), 2u);
  EXPECT_THAT((*source)->Place(1), testing::EndsWith(":5"));
  EXPECT_TRUE((*source)->Get("", 1).ok());
  const auto totals = Check(**source);
  ASSERT_TRUE(totals.ok()) << totals.status();
  EXPECT_EQ(totals->demonstrations, 2u);
  EXPECT_EQ(totals->tokens, 2 * totals->longest);
  EXPECT_GT(totals->learnt, 0);
  EXPECT_LT(totals->learnt, totals->tokens);
  EXPECT_FALSE(DemonstrationsOfText("file", "\r\n \n").ok());
}

TEST_F(DemonstrationsTest, EveryBadLineOfTheFirstTenIsNamedAndTheRestCounted) {
  std::string text;
  for (int line = 1; line <= 100; ++line) {
    absl::StrAppend(&text, line > 88 ? kMute : kGood, "\n");
  }
  const std::string refusal = Refusal(text);
  EXPECT_THAT(refusal, HasSubstr("12 of 100 demonstrations"));
  for (int line = 89; line <= 98; ++line) {
    EXPECT_THAT(refusal, HasSubstr(absl::StrCat(":", line,
                                                ": messages: no assi"
                                                "stant message after")));
  }
  EXPECT_THAT(refusal, Not(HasSubstr(":99:")));
  EXPECT_THAT(refusal, HasSubstr("\n  and 2 more"));
}

TEST_F(DemonstrationsTest, WhatIsWrongIsNamedWithItsLimit) {
  EXPECT_EQ(Refusal(kGood), "");
  const std::pair<std::string, std::string> cases[] = {
      {"[1]", ":2: "},
      {R"({"mesages": []})", "mesages"},
      {R"({"messages": []})", ":2: messages: no assistant message"},
      {R"({"messages": [{"content": "?"}]})",
       ":2: message 0 (role ''): unknown role; known: system"},
      {R"({"messages": [{"role": "user", "content": "?"},)"
       R"( {"role": "assistant", "content": "!"}]})",
       "needs reasoning_content or tool_calls; give it what it is to think "
       "first as \"reasoning_content\": \"...\""},
      {R"({"messages": [{"role": "user", "content": ")" +
           std::string(40000, 'a') +
           R"("}, {"role": "assistant", "reasoning_content": "x"}]})",
       "tokens; at most 16384 may be one conversation's; shorten it"},
  };
  for (const auto& [line, said] : cases) {
    const std::string refusal = Refusal(absl::StrCat(kGood, "\n", line, "\n"));
    EXPECT_THAT(refusal, HasSubstr(said));
    EXPECT_THAT(refusal, Not(HasSubstr("\n")));
  }
  model_.max_position_embeddings = 8;
  EXPECT_THAT(Refusal(kGood), HasSubstr("tokens; at most 8 by the model's "
                                        "max_position_embeddings; shorten it"));
}

// What one stage takes another may not: each is checked as it is shown.
TEST_F(DemonstrationsTest, ADemonstrationIsCheckedAsEachStageShowsIt) {
  const std::string line = absl::StrCat(
      R"({"messages": [{"role": "system", "content": ")",
      std::string(40000, 'a'), R"("}, )", std::string(kGood).substr(14));
  config_.mutable_stage(0)->set_preamble(false);
  EXPECT_EQ(Refusal(line), "");
  AddStage();
  EXPECT_THAT(Refusal(line), HasSubstr("at most 16384"));
}

TEST_F(DemonstrationsTest, AFilesMixIsRefusedOnce) {
  config_.mutable_stage(0)->set_mix("clean");
  const std::string refusal = Refusal(absl::StrCat(kGood, "\n", kGood, "\n"));
  EXPECT_THAT(refusal,
              HasSubstr("mix \"clean\": a demonstrations file has no"));
  EXPECT_THAT(refusal, Not(HasSubstr("\n")));
}

TEST_F(DemonstrationsTest, OfAGeneratorWhatTheStepsReachIsChecked) {
  const EndlessSource source;
  config_.mutable_stage(0)->set_mix("clean");
  config_.mutable_stage(0)->set_steps(3);
  SftStage* second = AddStage();
  second->set_steps(2);
  second->set_mix("sloppy");
  for (const auto& [steps, demonstrations] :
       {std::pair(1, 2u), std::pair(4, 8u), std::pair(9, 10u)}) {
    const auto totals = Check(source, steps);
    ASSERT_TRUE(totals.ok()) << totals.status();
    EXPECT_EQ(totals->demonstrations, demonstrations);
  }
  second->set_mix("no");
  EXPECT_THAT(std::string(Check(source, 1).status().message()),
              HasSubstr("mix no is none"));
}

TEST_F(DemonstrationsTest, AStopEndsTheCheck) {
  const auto source =
      DemonstrationsOfText("file", absl::StrCat(kGood, "\n", kMute));
  ASSERT_TRUE(source.ok());
  EXPECT_TRUE(absl::IsCancelled(
      CheckDemonstrations(config_, 1, model_, chat_.get(), **source,
                          [](uint64_t) { return false; })
          .status()));
}

}  // namespace
}  // namespace temper
