#include "environments/registration.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

Registration Words() {
  Registration registration;
  registration.set_name("words");
  registration.add_command("python3");
  registration.add_command("environment.py");
  registration.set_directory("/home/me/words");
  registration.mutable_description()->set_name("words");
  registration.mutable_description()->set_description("spell words");
  registration.mutable_description()->set_deterministic(true);
  registration.mutable_description()->set_step_ms(5);
  return registration;
}

std::string Refusal(const Registration& registration) {
  const absl::Status status = CheckRegistration(registration);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

std::string FileOf(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + "/" + name;
  EXPECT_TRUE(WriteFileDurably(path, text).ok());
  return path;
}

TEST(RegistrationTest, WhatIsWrittenIsRead) {
  Registration far = Words();
  far.set_name("far");
  far.mutable_description()->set_name("far");
  far.clear_command();
  far.clear_directory();
  far.set_address("127.0.0.1:7000");
  const std::string path = testing::TempDir() + "/both.jsonl";
  ASSERT_TRUE(WriteRegistrations(path, {Words(), far}).ok());
  const auto read = ReadRegistrations(path);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 2u);
  EXPECT_EQ((*read)[0].SerializeAsString(), Words().SerializeAsString());
  EXPECT_EQ((*read)[1].SerializeAsString(), far.SerializeAsString());
  EXPECT_EQ(WhereServed((*read)[0]),
            "python3 environment.py in /home/me/words");
  EXPECT_EQ(WhereServed((*read)[1]), "127.0.0.1:7000");
}

TEST(RegistrationTest, WithoutAFileNothingIsRegistered) {
  const auto none = ReadRegistrations(testing::TempDir() + "/none.jsonl");
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_TRUE(none->empty());
}

TEST(RegistrationTest, NoRegistrationTakesThePlaceOfWhatIsBuiltIn) {
  for (const char* name : {"math", "code", "example"}) {
    Registration registration = Words();
    registration.set_name(name);
    registration.mutable_description()->set_name(name);
    EXPECT_THAT(Refusal(registration),
                HasSubstr(std::string("environment ") + name +
                          " is built in, and a registration may not take its "
                          "place"));
  }
}

TEST(RegistrationTest, WhatCannotBeServedIsRefused) {
  Registration both = Words();
  both.set_address("127.0.0.1:7000");
  EXPECT_THAT(Refusal(both), HasSubstr("either a command"));
  Registration neither = Words();
  neither.clear_command();
  EXPECT_THAT(Refusal(neither), HasSubstr("either a command"));
  neither.set_address("10.0.0.1:7000");
  EXPECT_THAT(Refusal(neither), HasSubstr("is not loopback"));
  for (const char* directory : {"", "words", "/"}) {
    Registration placeless = Words();
    placeless.set_directory(directory);
    EXPECT_THAT(Refusal(placeless), HasSubstr("is to be an absolute path"));
  }
  Registration other = Words();
  other.mutable_description()->set_name("other");
  EXPECT_THAT(Refusal(other), HasSubstr("words describes itself as other"));
}

TEST(RegistrationTest, ABadLineIsToldByItsNumber) {
  const std::string good = testing::TempDir() + "/good.jsonl";
  ASSERT_TRUE(WriteRegistrations(good, {Words()}).ok());
  const std::string line = *ReadFile(good, 1 << 20);
  EXPECT_THAT(
      std::string(ReadRegistrations(FileOf("twice.jsonl", line + "\n" + line))
                      .status()
                      .message()),
      HasSubstr("twice.jsonl:3: environment words is registered twice"));
  EXPECT_THAT(
      std::string(ReadRegistrations(FileOf("bad.jsonl", line + "{\"nam\": 1}"))
                      .status()
                      .message()),
      HasSubstr("bad.jsonl:2"));
  EXPECT_THAT(std::string(ReadRegistrations(
                              FileOf("marked.jsonl", "\xEF\xBB\xBF" + line))
                              .status()
                              .message()),
              HasSubstr("marked.jsonl begins with"));
}

}  // namespace
}  // namespace temper
