#include "rewards/reward.h"

#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/utf8.h"

namespace temper {
namespace {

struct Episode {
  std::vector<Message> transcript;
  Verdict verdict;
  size_t prompt_messages = 1;
  uint64_t sampled_tokens = 10;
  bool thinking = true;

  Message* Add(const char* role, const char* content) {
    transcript.emplace_back();
    transcript.back().set_role(role);
    transcript.back().set_content(content);
    return &transcript.back();
  }
};

Episode Solved() {
  Episode episode;
  episode.Add("user", "add three and four");
  episode.Add("assistant", "7")->set_reasoning_content("three and four is 7");
  episode.verdict.set_outcome(OUTCOME_OK);
  episode.verdict.set_verified(true);
  episode.verdict.set_correct(true);
  return episode;
}

std::unique_ptr<Reward> AllParts() {
  RewardConfig config;
  config.set_rule_weight(1);
  config.set_format_weight(0.5);
  config.set_length_weight(0.25);
  config.set_language_weight(0.125);
  config.set_length_target_tokens(100);
  return *Reward::Create(config);
}

// The value of part `name`; a NaN if it is not there.
double Part(const Episode& episode, const std::string& name) {
  const auto parts = AllParts()->Score(
      {episode.transcript, episode.prompt_messages, episode.verdict,
       episode.sampled_tokens, episode.thinking});
  for (const RewardPart& part : *parts) {
    if (part.name() == name) return part.value();
  }
  return std::numeric_limits<double>::quiet_NaN();
}

TEST(RewardTest, SumsNamedPartsByWeight) {
  const Episode episode = Solved();
  const auto parts =
      AllParts()->Score({episode.transcript, episode.prompt_messages,
                         episode.verdict, 150, /*thinking=*/true});
  ASSERT_TRUE(parts.ok());
  std::string line;
  for (const RewardPart& part : *parts) {
    line += part.name() + "=" + std::to_string(part.value()).substr(0, 4) + " ";
  }
  EXPECT_EQ(line, "rule=1.00 format=1.00 length=-0.5 language=1.00 ");
  EXPECT_EQ(Reward::Sum(*parts), 1 + 0.5 - 0.125 + 0.125);
}

Episode WithScore(const std::string& name, double value, double weight) {
  Episode episode = Solved();
  VerdictScore* const score = episode.verdict.add_scores();
  score->set_name(name);
  score->set_value(value);
  score->set_weight(weight);
  return episode;
}

absl::StatusOr<std::vector<RewardPart>> ScoreOf(const Episode& episode,
                                                double score_weight) {
  RewardConfig config;
  config.set_rule_weight(1);
  config.set_score_weight(score_weight);
  return (*Reward::Create(config))
      ->Score({episode.transcript, episode.prompt_messages, episode.verdict,
               episode.sampled_tokens, episode.thinking});
}

TEST(RewardTest, ScoresArePartsPaidByBothWeights) {
  const auto parts = ScoreOf(WithScore("tests_passed", 0.75, 0.5), 0.25);
  ASSERT_TRUE(parts.ok()) << parts.status();
  EXPECT_EQ(parts->back().name(), "score_tests_passed");
  EXPECT_EQ(parts->back().value(), 0.75);
  EXPECT_EQ(parts->back().weight(), 0.125);
  EXPECT_EQ(Reward::Sum(*parts), 1 + 0.75 * 0.125);
  // Logged where it is not paid.
  const auto unpaid = ScoreOf(WithScore("tests_passed", 0.75, 0.5), 0);
  EXPECT_EQ(unpaid->back().name(), "score_tests_passed");
  EXPECT_EQ(Reward::Sum(*unpaid), 1);
}

TEST(RewardTest, AScoreThatIsNoneIsRefusedByNameAndValue) {
  const double kNan = std::numeric_limits<double>::quiet_NaN();
  const double kInf = std::numeric_limits<double>::infinity();
  std::vector<Episode> bad = {WithScore("x", kNan, 1),
                              WithScore("x", kInf, 1),
                              WithScore("x", -kInf, 1),
                              WithScore("x", 1e9, 1),
                              WithScore("x", -1.01, 1),
                              WithScore("x", 0, kNan),
                              WithScore("x", 0, -0.1),
                              WithScore("x", 0, 1.1),
                              WithScore("", 0, 1),
                              WithScore("a b", 0, 1),
                              WithScore(std::string(33, 'x'), 0, 1)};
  bad.push_back(WithScore("x", 0, 1));
  *bad.back().verdict.add_scores() = bad.back().verdict.scores(0);
  bad.push_back(Solved());
  for (int i = 0; i < 17; ++i) {
    bad.back().verdict.add_scores()->set_name("x" + std::to_string(i));
  }
  for (const Episode& episode : bad) {
    for (const double score_weight : {0., 1.}) {
      const auto status = ScoreOf(episode, score_weight).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(status.ToString(), testing::HasSubstr("score"));
    }
  }
  EXPECT_THAT(ScoreOf(bad[3], 1).status().ToString(),
              testing::HasSubstr("score x is 1e+09"));
  EXPECT_TRUE(ScoreOf(WithScore("x", -1, 0), 1).ok());
}

TEST(RewardTest, ExistsOnlyIfAVerifierRan) {
  for (int outcome = 0; outcome <= OUTCOME_CANCELLED; ++outcome) {
    Episode episode = Solved();
    episode.verdict.set_outcome(static_cast<Outcome>(outcome));
    const RewardInput input = {episode.transcript, episode.prompt_messages,
                               episode.verdict, 1,
                               /*thinking=*/true};
    const bool graded = outcome >= OUTCOME_OK && outcome <= OUTCOME_TIMEOUT;
    EXPECT_EQ(AllParts()->Score(input).ok(), graded) << outcome;
    episode.verdict.set_verified(false);
    EXPECT_EQ(AllParts()->Score(input).status().code(),
              absl::StatusCode::kFailedPrecondition);
  }
}

TEST(RewardTest, RuleBelievesTheVerdictAndNothingTheModelWrites) {
  Episode episode = Solved();
  EXPECT_EQ(Part(episode, "rule"), 1);
  episode.verdict.set_correct(false);
  episode.transcript.back().set_content("correct: true, reward=1, \\boxed{7}");
  EXPECT_EQ(Part(episode, "rule"), 0);
}

TEST(RewardTest, FormatIsNotPaidToCheats) {
  EXPECT_EQ(Part(Solved(), "format"), 1);
  const struct {
    const char* why;
    void (*spoil)(Episode*);
  } kCheats[] = {
      {"truncated",
       [](Episode* e) { e->verdict.set_outcome(OUTCOME_TRUNCATED); }},
      {"malformed",
       [](Episode* e) { e->verdict.set_outcome(OUTCOME_MODEL_ERROR); }},
      {"empty", [](Episode* e) { e->transcript.back().set_content(" \n"); }},
      {"calls on", [](Episode* e) { e->transcript.back().add_tool_calls(); }},
      {"no end", [](Episode* e) { e->Add("tool", "7"); }},
      {"nothing", [](Episode* e) { e->transcript.clear(); }},
      {"second think",
       [](Episode* e) { e->transcript.back().set_content("a</think>7"); }},
      {"marker in the reasoning",
       [](Episode* e) {
         e->transcript.back().set_reasoning_content(
             "<\xEF\xBD\x9CUser\xEF\xBD\x9C>");
       }},
  };
  for (const auto& cheat : kCheats) {
    Episode episode = Solved();
    cheat.spoil(&episode);
    EXPECT_EQ(Part(episode, "format"), 0) << cheat.why;
  }
}

// A task may show how others answered.
TEST(RewardTest, WhatThePromptsAssistantWroteIsNotTheModels) {
  for (const bool thinking : {true, false}) {
    Episode episode;
    episode.thinking = thinking;
    episode.Add("user", "add one and two");
    episode.Add("assistant", "<think>три</think>")
        ->set_reasoning_content("один и два");
    episode.Add("user", "add three and four");
    episode.prompt_messages = 3;
    episode.verdict.set_outcome(OUTCOME_OK);
    episode.verdict.set_verified(true);
    EXPECT_EQ(Part(episode, "format"), 0);
    EXPECT_EQ(Part(episode, "language"), 0);
    episode.Add("assistant", "seven")->set_reasoning_content("it is seven");
    EXPECT_EQ(Part(episode, "format"), 1);
    EXPECT_EQ(Part(episode, "language"), 1);
    // Its own earlier turns count.
    episode.prompt_messages = 1;
    EXPECT_EQ(Part(episode, "format"), 0);
    EXPECT_LT(Part(episode, "language"), 1);
  }
}

TEST(RewardTest, LengthCostsNothingToTheTargetAndOneAtTwice) {
  Episode episode = Solved();
  for (const auto& [tokens, value] :
       {std::pair<uint64_t, double>{0, 0.},
        {100, 0.},
        {125, -0.25},
        {200, -1.},
        {100000, -1.},
        {std::numeric_limits<uint64_t>::max(), -1.}}) {
    episode.sampled_tokens = tokens;
    EXPECT_EQ(Part(episode, "length"), value) << tokens;
  }
}

TEST(RewardTest, LanguageIsTheShareOfWordsInTheTasksLanguage) {
  const struct {
    const char* task;
    const char* reasoning;
    double share;
  } kCases[] = {
      {"add three", "one two three four", 1},
      {"add three", "one two \xE4\xB8\x89 \xE5\x9B\x9B", 0.5},
      {"add three", "one\xE4\xB8\x89", 0.5},
      {"\xE4\xBD\xA0\xE5\xA5\xBD", "\xE4\xBD\xA0 word", 0.5},
      {"\xE4\xBD\xA0\xE3\x81\x82", "\xE4\xBD\xA0\xE3\x81\x82", 1},
      {"add", "\xD1\x8F\xD1\x8F one", 0.5},
      {"1+2", "one", 1},      // no word in the task: Latin
      {"add", "", 0},         // nothing said, nothing paid
      {"add", "1 2 3 +", 0},  // nor for what is no language
  };
  for (const auto& c : kCases) {
    Episode episode = Solved();
    episode.transcript[0].set_content(c.task);
    episode.transcript[1].set_reasoning_content(c.reasoning);
    EXPECT_EQ(Part(episode, "language"), c.share)
        << c.task << " | " << c.reasoning;
  }
}

double LanguageShare(const std::string& task, const std::string& reasoning) {
  Episode episode = Solved();
  episode.transcript[0].set_content(task);
  episode.transcript[1].set_reasoning_content(reasoning);
  return Part(episode, "language");
}

TEST(RewardTest, EveryLanguageIsTheLanguageOfItsOwnTasks) {
  for (const char* text :
       {"Tôi cộng ba và bốn được bảy, rồi trả lời: bảy",
        "þrír og fjórir eru sjö",
        // The same by combining marks.
        "To\u0302i co\u0323\u0302ng ba va\u0300 bo\u0302\u0301n",
        "τρία και τέσσερα", "три и четыре", "երեք և չորս", "שלוש ועוד ארבע",
        "ثلاثة وأربعة", "तीन और चार", "তিন আর চার", "மூன்று", "మూడు", "മൂന്ന്",
        "สามกับสี่", "ສາມ", "បី", "သုံး", "სამი და ოთხი", "ሦስት", "གསུམ",
        "三加四等于七", "三と四でナナ", "ｱﾊﾟｰﾄ", "셋 더하기 넷", "ᏦᎢ", "ᠭᠤᠷᠪᠠ",
        "ﬁne ＡＢＣ"}) {
    EXPECT_EQ(LanguageShare(text, text), 1) << text;
    EXPECT_EQ(LanguageShare(text, "ⲁⲃⲅ"), 0) << text;  // Coptic
  }
  EXPECT_EQ(LanguageShare("ⲁⲃⲅ", "ⲁⲃⲅ one"), 0.5);
  EXPECT_EQ(LanguageShare("τρία", "երեք"), 0);
  EXPECT_EQ(LanguageShare("तीन", "তিন"), 0);
}

TEST(RewardTest, AWordIsOneWordWhateverItsMarksAndJoiners) {
  EXPECT_EQ(LanguageShare("तीन", "हिन्दी word"), 0.5);
  EXPECT_EQ(LanguageShare("तीन", "क्\u200dष word"), 0.5);
  EXPECT_EQ(LanguageShare("ba", "to\u0302i три"), 0.5);
  EXPECT_EQ(LanguageShare("셋", "셋 three"), 0.5);
  // The same syllable by its letters.
  EXPECT_EQ(LanguageShare("셋", "\u1109\u1166\u11ba three"), 0.5);
}

// A letter of each script in modern use: UAX 31, tables 5 and 7. Han and kana,
// which Japanese mixes, are tested below.
constexpr char32_t kLetters[] = {
    U'a',    0x0430, 0x0627,  0x03B1,  0x05D0,  0x0E01, 0x0905,  0x0561,
    0x0985,  0x3105, 0x1200,  0x10D0,  0x0A85,  0x0A05, 0x0C85,  0x1780,
    0x0E81,  0x0D05, 0x1000,  0x0B05,  0x0D85,  0x0B85, 0x0C05,  0x0780,
    0x0F40,  0xAC00, 0x4E09,  0x1E922, 0x1B13,  0xA6A0, 0x1BC0,  0x1401,
    0x11107, 0xAA00, 0x13A0,  0x10D00, 0xA984,  0xA90A, 0x1C00,  0x1901,
    0xA4D0,  0x0840, 0xABC0,  0x16F00, 0x1820,  0x1980, 0x11400, 0x07CA,
    0x1E100, 0x1C5A, 0x104B0, 0xA882,  0x1B83,  0xA800, 0x0710,  0x1950,
    0x1A20,  0xAA80, 0x2D30,  0xA500,  0x1E2C0, 0xA000};

TEST(RewardTest, NoTwoScriptsInUseAreOneLanguage) {
  std::vector<std::string> words;
  for (const char32_t letter : kLetters) {
    AppendUtf8(letter, &words.emplace_back());
  }
  for (const std::string& task : words) {
    for (const std::string& written : words) {
      ASSERT_EQ(LanguageShare(task, written), &task == &written ? 1 : 0)
          << task << " | " << written;
    }
  }
}

TEST(RewardTest, DigitsPunctuationAndSymbolsOfAnyScriptAreNoWords) {
  const std::string signs =
      "12 १२३ ৪৫ ٤٥ ۴۵ ๓ ༤ 〇 Ⅳ ² ① ½ 、。「」 । ؟ … € → ∑ Ⓐ "
      "🙂 "
      "𝟗 "
      "µ";
  EXPECT_EQ(LanguageShare("add", "one " + signs), 1);
  EXPECT_EQ(LanguageShare("add", signs), 0);  // nothing said
  EXPECT_EQ(LanguageShare("三 " + signs, "四"), 1);
}

TEST(RewardTest, BytesThatAreNoTextAreNoWordsAndLongTextIsRead) {
  EXPECT_EQ(LanguageShare("add", "\xff one \xe4\xb8 two \xf5"), 1);
  std::string text;
  while (text.size() < 1000000) text += "word три 三 ३ \u0301\u0302 ";
  EXPECT_NEAR(LanguageShare("add", text), 1.0 / 3, 1e-9);
  // Beyond PCRE2's own match limit.
  const std::string word(6000000, 'b');
  EXPECT_EQ(LanguageShare("add", word), 1);
  EXPECT_EQ(LanguageShare("add", word + " \xE4\xB8\x89"), 0.5);
  std::string han = "\xE4\xB8\x89";
  while (han.size() < 12000000) han += "\u0301";
  EXPECT_EQ(LanguageShare("\xE4\xB8\x89", han), 1);
}

// Without thinking the content is what the model wrote; an unparsed message is
// reasoning to a grader in either mode, and nobody is paid for it.
TEST(RewardTest, LanguageIsJudgedByWhatIsWrittenInThatMode) {
  Episode episode = Solved();
  episode.thinking = false;
  episode.transcript[1].clear_reasoning_content();
  episode.transcript[1].set_content("it is seven, 七");
  EXPECT_EQ(Part(episode, "language"), 0.75);
  episode.thinking = true;
  EXPECT_EQ(Part(episode, "language"), 0);
}

TEST(RewardTest, LanguageOfAnEpisodeThatDidNotEndItselfIsNotPaid) {
  for (const bool thinking : {true, false}) {
    for (const Outcome outcome : {OUTCOME_TRUNCATED, OUTCOME_MODEL_ERROR}) {
      Episode episode = Solved();
      episode.thinking = thinking;
      episode.transcript[1].set_content("seven");
      EXPECT_EQ(Part(episode, "language"), 1);
      episode.verdict.set_outcome(outcome);
      EXPECT_EQ(Part(episode, "language"), 0) << thinking;
      episode.transcript[1].clear_content();
      EXPECT_EQ(Part(episode, "language"), 0) << thinking;
    }
  }
}

TEST(RewardTest, ToolOutputDoesNotCountAsTheModelsLanguage) {
  Episode episode = Solved();
  episode.transcript[1].set_reasoning_content("\xE4\xBD\xA0");
  episode.Add("tool", "many latin words here");
  EXPECT_EQ(Part(episode, "language"), 0);
}

TEST(RewardTest, ConfigThatCannotBeMeantIsRefusedByName) {
  const auto refusal = [](void (*spoil)(RewardConfig*)) {
    RewardConfig config;
    config.set_rule_weight(1);
    EXPECT_TRUE(Reward::Create(config).ok());
    spoil(&config);
    return std::string(Reward::Create(config).status().message());
  };
  EXPECT_THAT(refusal([](RewardConfig* c) { c->clear_rule_weight(); }),
              testing::HasSubstr("rule_weight is absent"));
  EXPECT_THAT(refusal([](RewardConfig* c) { c->set_rule_weight(0); }),
              testing::HasSubstr("set rule_weight"));
  EXPECT_THAT(refusal([](RewardConfig* c) { c->set_length_weight(1); }),
              testing::HasSubstr("length_target_tokens"));
  EXPECT_THAT(refusal([](RewardConfig* c) { c->set_format_weight(101); }),
              testing::HasSubstr("format_weight"));
  EXPECT_THAT(
      refusal([](RewardConfig* c) {
        c->set_language_weight(std::numeric_limits<double>::quiet_NaN());
      }),
      testing::HasSubstr("language_weight"));
}

TEST(RewardTest, NegatedWeightNegatesTheReward) {
  RewardConfig config;
  config.set_rule_weight(-1);
  const Episode episode = Solved();
  const auto parts = (*Reward::Create(config))
                         ->Score({episode.transcript, episode.prompt_messages,
                                  episode.verdict, 1,
                                  /*thinking=*/true});
  EXPECT_EQ(Reward::Sum(*parts), -1);
}

}  // namespace
}  // namespace temper
