// What `temper env init made --cpp` wrote.

#include "environments/conformance.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "tests/made_environment/made.h"

namespace temper {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string File(const std::string& name) {
  const auto text = ReadFile("tests/made_environment/" + name, 1 << 20);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.value_or("");
}

// As conformance_test gives one to each environment of the table.
Task ATask() {
  Task task;
  task.set_id("made-1");
  task.set_environment("made");
  task.set_payload_json(R"({"answer": "92837465"})");
  Message* message = task.add_messages();
  message->set_role("user");
  message->set_content("What is it?");
  return task;
}

TEST(MadeEnvironmentTest, KeepsWhatAllPromise) {
  const NewEpisode make = [] {
    return NewMadeEnvironment(EnvironmentContext());
  };
  const absl::Status status = CheckConformance(ATask(), 1, make);
  EXPECT_TRUE(status.ok()) << status;
  const auto said = PlayTranscript(ATask(), 42, make);
  ASSERT_TRUE(said.ok()) << said.status();
  EXPECT_EQ(*said, File("made_golden.txt"));
}

TEST(MadeEnvironmentTest, HasItsLineOfTheTableInOrder) {
  EXPECT_THAT(
      File("registry_cc.txt"),
      HasSubstr("    {&kInterpreterFacts, &NewInterpreterEnvironment},\n"
                "    {&kMadeFacts, &NewMadeEnvironment},\n"
                "    {&kMathFacts, &NewMathEnvironment},\n"));
  EXPECT_THAT(File("registry_cc.txt"),
              HasSubstr("#include \"environments/interpreter/interpreter.h\"\n"
                        "#include \"environments/made/made.h\"\n"
                        "#include \"environments/math/math.h\"\n"));
  EXPECT_THAT(File("registry_BUILD.txt"),
              HasSubstr("        \"//environments/interpreter\",\n"
                        "        \"//environments/made\",\n"
                        "        \"//environments/math\",\n"));
}

TEST(MadeEnvironmentTest, NothingInItIsTheExamplesAnyMore) {
  const std::string header = File("made_BUILD.txt");
  EXPECT_THAT(header, HasSubstr("name = \"made\""));
  EXPECT_THAT(header, Not(HasSubstr("example")));
  EXPECT_THAT(header, Not(HasSubstr("env init")));
}

}  // namespace
}  // namespace temper
