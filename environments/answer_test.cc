#include "environments/answer.h"

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

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
  for (const char* cheat : {"",           " ",
                            "43",         "-42",
                            "4 2",        "42 or 43",
                            "41 42",      "42,43",
                            "4,2",        "0x2a",
                            "21*2",       "\\boxed{42} or \\boxed{43}",
                            "\\boxed{}",  "\\boxed{42",
                            "42/0",       "42/1/1",
                            "42%",        "nan",
                            "--42",       "42..",
                            "answer: 42", "{\"answer\": \"42\"}",
                            "42.0.0"}) {
    EXPECT_FALSE(Correct(cheat, "42")) << cheat;
  }
}

TEST(AnswerTest, FormsThatModelsWriteAreTheirValue) {
  for (const char* right :
       {"$42$", "\\(42\\)", "\\[42\\]", "**42**", "\\boxed{$42$}",
        "\\boxed{\\text{42}}", "Six times seven.\n#### 42", "#### $42.00 ",
        "#### **42**.", "\\boxed {42}", "\\fbox{42}", "\\boxed{\\boxed{42}}",
        "so $\\boxed{\\dfrac{84}{2}}$ it is", "\\boxed{42}.\n#### 7"}) {
    EXPECT_TRUE(Correct(right, "42")) << right;
  }
  EXPECT_TRUE(Correct("\\boxed{\\$1,234.00}", "1234"));
  EXPECT_TRUE(Correct("\\boxed{\\frac{1}{2}}", "1/2"));
  EXPECT_TRUE(Correct("\\boxed{\\dfrac12}", "1/2"));
  EXPECT_TRUE(Correct("\\boxed{\\text{E}}", "E"));
  EXPECT_TRUE(Correct("2, 3", "2,3"));
}

TEST(AnswerTest, TheLastBoxCountsAndMustBeClosed) {
  EXPECT_EQ(ExtractAnswer("\\boxed{1} then \\boxed{\\frac{1}{2}} end"),
            "\\frac{1}{2}");
  EXPECT_EQ(ExtractAnswer("\\boxed{1 or {2} \\boxed{3} 4}"),
            "1 or {2} \\boxed{3} 4");
  EXPECT_EQ(ExtractAnswer("\\boxed{1 \\boxed{2}"), "2");
  EXPECT_EQ(ExtractAnswer("\\boxed{\\{1, 2\\}}"), "\\{1, 2\\}");
  EXPECT_EQ(ExtractAnswer("} \\boxed{5}}"), "5");
  EXPECT_EQ(ExtractAnswer(" plain\n"), "plain");
  // Without a brace or a number there is no box.
  EXPECT_EQ(ExtractAnswer("\\boxed x"), "\\boxed x");
  EXPECT_EQ(ExtractAnswer("\\boxed{7} as \\boxed says"), "7");
  EXPECT_EQ(ExtractAnswer("\\boxed{7} so \\boxed"), "7");
  for (const char* none :
       {"\\boxed{7} so it is \\boxed{", "\\boxed{7", "\\boxed{}",
        "\\boxed{7\\}", "7\n####", "\\boxed{1}\\boxed{2}\\boxed{\\boxed{3}"}) {
    const std::string answer = ExtractAnswer(none);
    EXPECT_TRUE(answer.empty() || answer == "3") << none << ": " << answer;
    EXPECT_FALSE(Correct(none, "7")) << none;
  }
}

TEST(AnswerTest, ANumberIsBoxedWithoutBracesToItsFormulasEnd) {
  for (const char* right :
       {"\\boxed 42", "so $\\boxed 42$ it is", "\\(\\boxed42\\) holds",
        "\\boxed{1} no, \\boxed +42.", "\\boxed{41} \\boxed 42.0\nas I said",
        "\\[\\fbox 42\\] is it"}) {
    EXPECT_TRUE(Correct(right, "42")) << right;
  }
  for (const char* wrong :
       {"\\boxed 4 2", "\\boxed 42 \\cdot 2", "\\boxed 42/2",
        "\\boxed 42 \\boxed 43", "$\\boxed 42$ or \\boxed{43}",
        "\\boxed{41 \\boxed 42}", "\\boxed 42, 43"}) {
    EXPECT_FALSE(Correct(wrong, "42")) << wrong;
  }
  EXPECT_EQ(ExtractAnswer("\\boxed{1 + \\boxed 2} end"), "1 + \\boxed 2");
  EXPECT_EQ(ExtractAnswer("\\boxed 7\\"), "7\\");
}

TEST(AnswerTest, AMarkCountsInTheLastLineOnly) {
  EXPECT_EQ(ExtractAnswer("a #### b\nc #### d \n"), "d");
  EXPECT_EQ(ExtractAnswer("#### Solution\n42"), "#### Solution\n42");
  EXPECT_FALSE(Correct("#### 42 #### 43", "42"));
}

TEST(AnswerTest, ManyAnswersAreNotTheOneThatIsAskedFor) {
  std::string every, boxes;
  for (int i = 0; i < 500; ++i) {
    every += (i == 0 ? "" : ", ") + std::to_string(i);
    boxes += "\\boxed{" + std::to_string(i) + "} ";
  }
  EXPECT_FALSE(Correct(every, "42"));
  EXPECT_FALSE(Correct("\\boxed{" + every + "}", "42"));
  EXPECT_FALSE(Correct(boxes, "42"));
  EXPECT_TRUE(Correct(boxes + "\\boxed{42}", "42"));
  EXPECT_FALSE(Correct("\\boxed{41 \\boxed{42}}", "42"));
  EXPECT_FALSE(Correct("\\boxed{42}{43}\\boxed{\\text{42 }43}", "42"));
}

TEST(AnswerTest, TextIsComparedAsText) {
  EXPECT_TRUE(Correct(" drow\n", "drow"));
  EXPECT_FALSE(Correct("Drow", "drow"));
  EXPECT_FALSE(Correct("drow drow", "drow"));
}

TEST(AnswerTest, HostileContentIsReadInLinearTime) {
  for (const char* part :
       {"\\boxed{", "{", "}", "\\boxed{}", "####", "\\", "$", "\\boxed ",
        "\\boxed 9", "\\boxed{{}", "1,", "(", "9"}) {
    std::string flood;
    while (flood.size() < 4000000) flood += part;
    EXPECT_FALSE(Correct(flood, "42")) << part;
    EXPECT_FALSE(Correct(flood + "\\boxed{43}", "42")) << part;
  }
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

// TruthOf a task "t1" whose payload has this "answer".
absl::StatusOr<std::string> TruthIn(const nlohmann::ordered_json& answer) {
  Task task;
  task.set_id("t1");
  return TruthOf(task, {{"answer", answer}});
}

TEST(AnswerTest, TruthMustBeAStringThatAnAnswerCanEqual) {
  const auto fault = [](const std::string& what) {
    return absl::InvalidArgumentError("task t1: payload_json.answer " + what);
  };
  Task task;
  task.set_id("t1");
  EXPECT_EQ(TruthOf(task, nlohmann::ordered_json::object()).status(),
            fault("is missing; it must be a string"));
  EXPECT_EQ(TruthIn(42).status(), fault("is a number; it must be a string"));
  EXPECT_EQ(TruthIn(" ").status(), fault("has 0 bytes; 1 to 4096 are allowed"));
  EXPECT_EQ(TruthIn(std::string(4097, '1')).status(),
            fault("has 4097 bytes; 1 to 4096 are allowed"));
  EXPECT_EQ(TruthIn("6 #### ").status(),
            fault("has nothing after its ####; write the value there"));
  for (const char* empty : {"\\!", "\\text{}", "\\left\\right", "$\\,$"}) {
    EXPECT_EQ(TruthIn(empty).status(),
              fault(std::string("is ") + empty +
                    ", which says nothing that an answer can equal; write a "
                    "value"));
  }
  EXPECT_EQ(*TruthIn("He has 2*3=6.\n#### 1,006"), "1,006");
  EXPECT_EQ(*TruthIn("The answer is $\\boxed{\\frac{1}{2}}$."), "\\frac{1}{2}");
  EXPECT_EQ(*TruthIn("\\boxed{6}, so\n#### 7"), "6");
  for (const char* open : {"\\boxed{42", "\\boxed{}", "\\boxed{6} \\boxed{"}) {
    EXPECT_EQ(TruthIn(open).status(),
              fault("has a last box that is empty or not closed; write the "
                    "value there"));
  }
  // Of a box within a box, what an answer has to be cannot be said.
  EXPECT_THAT(
      std::string(TruthIn("\\boxed{1 \\boxed{2} 3}").status().message()),
      testing::HasSubstr("that an answer can equal"));
  EXPECT_EQ(*TruthIn(std::string(4096, '1')), std::string(4096, '1'));
}

// The differences that tools/peers/math_verify_grading.py lists, with a verdict
// each: what it says of ours must stay true without the peer at hand.
TEST(AnswerTest, WhatIsListedBesideAPeersGradingIsHowWeGrade) {
  std::ifstream list("tools/peers/math_verify_grading.tsv");
  ASSERT_TRUE(list.is_open());
  int pairs = 0;
  for (std::string line; std::getline(list, line);) {
    if (line[0] == '#') continue;
    const std::vector<std::string> fields = absl::StrSplit(line, '\t');
    ASSERT_EQ(fields.size(), 5u) << line;
    const auto answer = nlohmann::json::parse(fields[0]);
    const auto truth = nlohmann::json::parse(fields[1]);
    EXPECT_EQ(Correct(answer, truth) ? "equal" : "unequal", fields[2]) << line;
    EXPECT_NE(fields[2], fields[3]) << line;
    EXPECT_GT(fields[4].size(), 1u) << line;  // "?" is no verdict
    ++pairs;
  }
  EXPECT_GT(pairs, 50);
}

}  // namespace
}  // namespace temper
