#include "environments/answer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

std::vector<Message> Says(const std::string& content) {
  Message user, assistant;
  user.set_role("user");
  assistant.set_role("assistant");
  assistant.set_content(content);
  return {user, assistant};
}

bool Correct(const std::string& content, const std::string& truth) {
  return GradeAnswer(OUTCOME_OK, Says(content), truth)->correct();
}

TEST(AnswerTest, NumbersAreEqualWhateverTheirSpelling) {
  for (const char* one_thousand_and_a_half :
       {"1000.5", "1,000.5", "+1000.50", "$1,000.5", "2001/2", " 1000.5. ",
        "\\boxed{1000.5}", "so it is \\boxed{ 1,000.50 }", "01000.5"}) {
    EXPECT_TRUE(Correct(one_thousand_and_a_half, "1000.5"))
        << one_thousand_and_a_half;
  }
  EXPECT_TRUE(Correct("-0", "0"));
  EXPECT_TRUE(Correct("-7", "-7.0"));
  EXPECT_TRUE(Correct("4/6", "2/3"));
  EXPECT_TRUE(Correct("0.123456789012345678901", ".1234567890123456789010"));
}

TEST(AnswerTest, WrongOrHedgedAnswersAreNotCorrect) {
  for (const char* cheat : {"",
                            " ",
                            "43",
                            "-42",
                            "4 2",
                            "42 or 43",
                            "41 42",
                            "42,43",
                            "4,2",
                            "42e0",
                            "0x2a",
                            "21*2",
                            "\\boxed{42} or \\boxed{43}",
                            "\\boxed{}",
                            "\\boxed{42",
                            "42/0",
                            "42/1/1",
                            "42%",
                            "nan",
                            "--42",
                            "42..",
                            "answer: 42",
                            "{\"answer\": \"42\"}",
                            "42.0.0"}) {
    EXPECT_FALSE(Correct(cheat, "42")) << cheat;
  }
}

TEST(AnswerTest, TheLastClosedBoxCounts) {
  EXPECT_EQ(ExtractAnswer("\\boxed{1} then \\boxed{\\frac{1}{2}} end"),
            "\\frac{1}{2}");
  EXPECT_EQ(ExtractAnswer("\\boxed{1} then \\boxed{2"), "1");
  EXPECT_EQ(ExtractAnswer(" plain\n"), "plain");
}

TEST(AnswerTest, TextIsComparedAsText) {
  EXPECT_TRUE(Correct(" drow\n", "drow"));
  EXPECT_FALSE(Correct("Drow", "drow"));
  EXPECT_FALSE(Correct("drow drow", "drow"));
}

TEST(AnswerTest, ManyUnclosedBoxesAreReadInBoundedTime) {
  std::string flood;
  for (int i = 0; i < 200000; ++i) flood += "\\boxed{";
  EXPECT_FALSE(Correct(flood, "42"));
}

TEST(AnswerTest, OnlyAnEpisodeThatEndedItselfCanBeCorrect) {
  for (Outcome outcome : {OUTCOME_TRUNCATED, OUTCOME_MODEL_ERROR}) {
    const auto verdict = GradeAnswer(outcome, Says("42"), "42");
    ASSERT_TRUE(verdict.ok());
    EXPECT_TRUE(verdict->verified());
    EXPECT_FALSE(verdict->correct());
  }
  std::vector<Message> calling = Says("42");
  calling.back().add_tool_calls()->set_name("python");
  EXPECT_FALSE(GradeAnswer(OUTCOME_OK, calling, "42")->correct());
  EXPECT_FALSE(GradeAnswer(OUTCOME_OK, {}, "42")->correct());
  std::vector<Message> by_user = Says("42");
  by_user.back().set_role("tool");
  EXPECT_FALSE(GradeAnswer(OUTCOME_OK, by_user, "42")->correct());
}

TEST(AnswerTest, InfrastructureFailuresAreNotGraded) {
  for (Outcome outcome : {OUTCOME_UNSPECIFIED, OUTCOME_SANDBOX_ERROR,
                          OUTCOME_ENVIRONMENT_ERROR, OUTCOME_CANCELLED}) {
    EXPECT_EQ(GradeAnswer(outcome, Says("42"), "42").status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(AnswerTest, TruthMustBeANonEmptyString) {
  Task task;
  task.set_id("t1");
  for (const char* bad : {"", "{", "[]", "{}", "{\"answer\": 42}",
                          "{\"answer\": \" \"}", "{\"answer\": \"#### \"}"}) {
    task.set_payload_json(bad);
    EXPECT_EQ(TruthOf(task).status().code(), absl::StatusCode::kInvalidArgument)
        << bad;
  }
  task.set_payload_json("{\"answer\": \"He has 2*3=6.\\n#### 1,006\"}");
  EXPECT_EQ(*TruthOf(task), "1,006");
}

}  // namespace
}  // namespace temper
