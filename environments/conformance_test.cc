// What every environment of the table promises: the checks of conformance.h,
// and what takes a task whose answer is known. A new environment adds a case to
// TaskFor if its Reset wants another payload, to Stating if its answers are no
// plain text, and to PlausibleCall if its tools want other arguments, and is
// held to the rest.

#include "environments/conformance.h"

#include <iostream>
#include <set>

#include "environments/registry.h"
#include "environments/sandbox_test_main.h"
#include "environments/search/index_builder.h"
#include "environments/self_test.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

SandboxPool* sandboxes = nullptr;  // set in main

constexpr char kSecret[] = "92837465";

// An index that the tasks of search may name.
std::string Corpus() {
  const std::string path = testing::TempDir() + "/conformance.index";
  const auto builder = *IndexBuilder::Create(path, {});
  EXPECT_TRUE(builder->Add("Six", "It is 6.").ok());
  EXPECT_TRUE(builder->Finish().ok());
  return path;
}

// A task whose right answer is kSecret.
Task TaskFor(const std::string& environment) {
  Task task;
  task.set_id(environment + "-1");
  task.set_environment(environment);
  Message* message = task.add_messages();
  message->set_role("user");
  message->set_content("What is it?");
  nlohmann::json payload = {{"answer", kSecret}};
  if (environment == "interpreter") payload["table"] = {{"k7", "58"}};
  if (environment == "search") {
    static const std::string corpus = Corpus();
    payload["corpus"] = corpus;
  }
  if (environment == "code") {
    payload = {{"entry_point", "secret"},
               {"examples", {{{"args", "0"}, {"value", "6"}}}},
               {"tests", {{{"args", "1"}, {"value", kSecret}}}}};
  }
  task.set_payload_json(payload.dump());
  return task;
}

// A message that answers `answer`, as the environment's answers are.
std::string Stating(const std::string& environment, const std::string& answer) {
  if (environment != "code") return answer;
  return "```\ndef secret(n):\n  return " + answer + "\n```";
}

ToolCall Call(const std::string& name, const std::string& arguments_json) {
  ToolCall call;
  call.set_name(name);
  call.set_arguments_json(arguments_json);
  return call;
}

// One plausible call of `tool`, made from its own schema.
ToolCall PlausibleCall(const Tool& tool) {
  const auto function = nlohmann::json::parse(tool.function_json());
  nlohmann::json arguments;
  for (const auto& property : function["parameters"]["properties"].items()) {
    if (property.value()["type"] == "integer") {
      arguments[property.key()] = 1;
    } else {
      arguments[property.key()] = property.key() == "key" ? "k7" : "6";
    }
  }
  if (tool.name() == "test") {
    arguments["code"] = "def secret(n):\n  return 6";
  }
  return Call(tool.name(), arguments.dump());
}

class ConformanceTest : public testing::TestWithParam<const EnvironmentFacts*> {
 protected:
  std::string name() const { return GetParam()->name; }

  absl::StatusOr<std::unique_ptr<Environment>> Make() const {
    return NewEnvironment(name(), {.sandboxes = sandboxes});
  }
  std::unique_ptr<Environment> New() {
    auto made = Make();
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }

  static std::vector<Message> Answering(const std::string& content) {
    Message message;
    message.set_role("assistant");
    message.set_content(content);
    return {message};
  }
};

TEST_P(ConformanceTest, FactsAreStated) {
  const EnvironmentFacts* facts = GetParam();
  EXPECT_GT(std::string(facts->description).size(), 10u);
  EXPECT_EQ(FindEnvironment(name()), facts);
  EXPECT_EQ(&New()->facts(), facts);
  if (facts->needs_sandbox) {
    EXPECT_EQ(facts->served_in, ServedIn::kHost);
    EXPECT_EQ(NewEnvironment(name(), {}).status().code(),
              absl::StatusCode::kFailedPrecondition);
  }
}

TEST_P(ConformanceTest, ToolsAreWhatTheChatFormatPrints) {
  const auto observation = New()->Reset(TaskFor(name()), 1);
  ASSERT_TRUE(observation.ok()) << observation.status();
  EXPECT_FALSE(observation->messages.empty());
  for (const Tool& tool : observation->tools) {
    const auto function = nlohmann::json::parse(tool.function_json());
    EXPECT_EQ(function["name"], tool.name());
    EXPECT_TRUE(function["description"].is_string());
    EXPECT_EQ(function["parameters"]["type"], "object");
  }
}

TEST_P(ConformanceTest, TheTruthIsNotShownToTheModel) {
  const auto environment = New();
  const auto observation = environment->Reset(TaskFor(name()), 1);
  ASSERT_TRUE(observation.ok());
  std::string shown;
  for (const Message& message : observation->messages) {
    shown += message.ShortDebugString();
  }
  for (const Tool& tool : observation->tools) {
    shown += tool.ShortDebugString();
    shown += environment->Step({PlausibleCall(tool)})->at(0).ShortDebugString();
  }
  EXPECT_EQ(shown.find(kSecret), std::string::npos) << shown;
}

TEST_P(ConformanceTest, KeepsWhatAllPromise) {
  const absl::Status status =
      CheckConformance(TaskFor(name()), 42, [this] { return Make(); });
  EXPECT_TRUE(status.ok()) << status;
}

// A change of it is a change of what models were trained on: it is to be seen.
TEST_P(ConformanceTest, SaysWhatItSaidBefore) {
  if (!GetParam()->deterministic) GTEST_SKIP() << "not declared deterministic";
  const auto said =
      PlayTranscript(TaskFor(name()), 42, [this] { return Make(); });
  ASSERT_TRUE(said.ok()) << said.status();
  const std::string path = "environments/golden/" + name() + ".txt";
  const std::string now = testing::TempDir() + "/" + name() + ".txt";
  ASSERT_TRUE(WriteFileDurably(now, *said).ok());
  EXPECT_EQ(*said, ReadFile(path, 1 << 20).value_or(""))
      << "if that is as it should be, make " << path << " what " << now
      << " is";
}

TEST_P(ConformanceTest, SameSeedSameBytes) {
  if (!GetParam()->deterministic) GTEST_SKIP() << "not declared deterministic";
  std::string runs[2];
  for (std::string& run : runs) {
    const auto environment = New();
    const auto observation = environment->Reset(TaskFor(name()), 42);
    ASSERT_TRUE(observation.ok());
    for (const Message& m : observation->messages) run += m.SerializeAsString();
    for (const Tool& tool : observation->tools) {
      run += tool.SerializeAsString();
      auto results = environment->Step({PlausibleCall(tool)});
      ASSERT_TRUE(results.ok()) << results.status();
      EXPECT_EQ(results->at(0).outcome(), OUTCOME_OK);
      results->at(0).clear_elapsed_us();
      run += results->at(0).SerializeAsString();
    }
    run += environment->Grade(OUTCOME_OK, Answering("1"))->SerializeAsString();
  }
  EXPECT_EQ(runs[0], runs[1]);
}

TEST_P(ConformanceTest, GradesTheTruthAndNothingElseAsCorrect) {
  for (const auto& [content, correct] :
       {std::pair<std::string, bool>{Stating(name(), kSecret), true},
        {Stating(name(), "0"), false},
        {"", false},
        {"0", false},
        {"{}", false}}) {
    const auto environment = New();
    ASSERT_TRUE(environment->Reset(TaskFor(name()), 1).ok());
    const auto verdict = environment->Grade(OUTCOME_OK, Answering(content));
    ASSERT_TRUE(verdict.ok()) << verdict.status();
    EXPECT_TRUE(verdict->verified());
    EXPECT_EQ(verdict->outcome(), OUTCOME_OK);
    EXPECT_EQ(verdict->correct(), correct) << content;
  }
}

// Whoever grades code can be cheated, and shows here that he is not.
TEST_P(ConformanceTest, PassesItsOwnSelfTest) {
  if (GetParam()->self_test == nullptr) {
    // One that runs code grades it, or is one of these.
    const std::set<std::string> grades_no_code = {"interpreter"};
    EXPECT_TRUE(!GetParam()->needs_sandbox || grades_no_code.count(name()) > 0)
        << "it has no attacks that it was tried against";
    return;
  }
  const auto report = RunSelfTest(*GetParam(), {.sandboxes = sandboxes});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_GE(report->attacks, 30);
  for (const std::string& skipped : report->skipped) {
    std::cerr << "skipped: " << skipped << "\n";
  }
}

TEST_P(ConformanceTest, AfterArgumentsOfAnotherToolTheEpisodeGoesOn) {
  const auto environment = New();
  const auto observation = environment->Reset(TaskFor(name()), 1);
  ASSERT_TRUE(observation.ok());
  for (const Tool& tool : observation->tools) {
    for (const char* arguments :
         {"{}", "{\"code\": 1, \"key\": 2}",
          "{\"code\": \"1\", \"key\": \"k7\", \"word\": \"x\"}"}) {
      const auto results = environment->Step({Call(tool.name(), arguments)});
      ASSERT_TRUE(results.ok()) << results.status();
      EXPECT_EQ(results->at(0).outcome(), OUTCOME_TOOL_ERROR) << tool.name();
    }
    EXPECT_EQ(environment->Step({PlausibleCall(tool)})->at(0).outcome(),
              OUTCOME_OK);
  }
}

TEST_P(ConformanceTest, BadTasksAreRefusedByName) {
  Task no_truth = TaskFor(name());
  no_truth.set_payload_json("{");
  Task no_prompt = TaskFor(name());
  no_prompt.clear_messages();
  Task misspelt = TaskFor(name());
  nlohmann::json payload = nlohmann::json::parse(misspelt.payload_json());
  payload["anwser"] = "1";
  misspelt.set_payload_json(payload.dump());
  for (const Task& task : {no_truth, no_prompt, misspelt}) {
    const auto status = New()->Reset(task, 1).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(task.id()));
    EXPECT_EQ(New()->Validate(task).status(), status);
    EXPECT_EQ(ValidateTask(task).status(), status) << "without sandboxes";
  }
}

TEST_P(ConformanceTest, WhatIsKnownOfATaskIsWhatItsEpisodeBeginsWith) {
  const auto known = ValidateTask(TaskFor(name()));
  ASSERT_TRUE(known.ok()) << known.status();
  const auto environment = New();
  ASSERT_TRUE(environment->Validate(TaskFor(name())).ok());
  const auto begun = environment->Reset(TaskFor(name()), 1);
  ASSERT_TRUE(begun.ok()) << begun.status();
  const auto shown = [](const Observation& observation) {
    std::string text;
    for (const Message& m : observation.messages) text += m.DebugString();
    for (const Tool& tool : observation.tools) text += tool.DebugString();
    return text;
  };
  EXPECT_EQ(shown(*known), shown(*begun));
}

INSTANTIATE_TEST_SUITE_P(
    Registered, ConformanceTest, testing::ValuesIn(RegisteredEnvironments()),
    [](const testing::TestParamInfo<const EnvironmentFacts*>& info) {
      return std::string(info.param->name);
    });

TEST(RegistryTest, AnUnknownNameIsRefusedWithThoseThereAre) {
  const auto status = NewEnvironment("unknown", {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ValidateTask(TaskFor("unknown")).status(), status);
  for (const EnvironmentFacts* facts : RegisteredEnvironments()) {
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(facts->name));
  }
}

TEST(InterpreterTest, ASecondCallCanUseWhatTheFirstRead) {
  auto environment = *NewEnvironment("interpreter", {.sandboxes = sandboxes});
  Task task = TaskFor("interpreter");
  task.set_payload_json(R"({"answer": "3679", "table": {"k7": "58"}})");
  ASSERT_TRUE(environment->Reset(task, 1).ok());
  const auto looked = environment->Step({Call("lookup", R"({"key": "k7"})")});
  EXPECT_EQ(looked->at(0).content(), "58");
  // The table is in no sandbox: code cannot look it up.
  EXPECT_EQ(environment->Step({Call("python", R"j({"code": "lookup('k7')"})j")})
                ->at(0)
                .outcome(),
            OUTCOME_TOOL_ERROR);
  const auto computed =
      environment->Step({Call("python", R"({"code": "58*63+25"})")});
  EXPECT_EQ(computed->at(0).content(), "3679\n");
  Message answer;
  answer.set_role("assistant");
  answer.set_content("3679");
  EXPECT_TRUE(environment->Grade(OUTCOME_OK, {answer})->correct());
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  return temper::RunTestsWithSandboxes(argc, argv, &temper::sandboxes);
}
