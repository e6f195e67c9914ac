#include "environments/described_facts.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

EnvironmentDescription Words() {
  EnvironmentDescription description;
  description.set_name("words");
  description.set_description("spell words backwards");
  return description;
}

TEST(DescribedFactsTest, WhatIsDescribedIsWhatIsRead) {
  EnvironmentFacts facts;
  facts.name = "words";
  facts.description = "spell words backwards";
  facts.deterministic = true;
  facts.needs_sandbox = true;
  facts.limits = {1'000, 2'000, 3'000};
  facts.open_steps = true;
  const EnvironmentDescription description = Describe(facts);
  ASSERT_TRUE(CheckDescription(description).ok());
  const DescribedFacts read(description);
  EXPECT_STREQ(read.facts().name, facts.name);
  EXPECT_STREQ(read.facts().description, facts.description);
  EXPECT_TRUE(read.facts().deterministic);
  EXPECT_TRUE(read.facts().needs_sandbox);
  EXPECT_TRUE(read.facts().open_steps);
  EXPECT_EQ(read.facts().served_in, ServedIn::kRegistered);
  EXPECT_EQ(read.facts().limits.reset_ms, 1'000);
  EXPECT_EQ(read.facts().limits.step_ms, 2'000);
  EXPECT_EQ(read.facts().limits.grade_ms, 3'000);
}

TEST(DescribedFactsTest, ALimitThatIsNotStatedIsTheLongest) {
  const DescribedFacts read(Words());
  EXPECT_EQ(read.facts().limits.reset_ms, EnvironmentLimits().reset_ms);
  EXPECT_EQ(read.facts().limits.step_ms, EnvironmentLimits().step_ms);
}

TEST(DescribedFactsTest, WhatIsOutOfBoundsIsRefusedByField) {
  EnvironmentDescription description = Words();
  EXPECT_TRUE(CheckDescription(description).ok());
  const int64_t longest = EnvironmentLimits().step_ms;
  description.set_step_ms(static_cast<uint32_t>(longest + 1));
  EXPECT_EQ(CheckDescription(description).message(),
            absl::StrCat("step_ms is ", longest + 1, ", at most ", longest,
                         "; 0 or less of it will do"));
  for (const char* text : {"", "two\nlines"}) {
    description = Words();
    description.set_description(text);
    EXPECT_EQ(CheckDescription(description).code(),
              absl::StatusCode::kInvalidArgument);
  }
  for (const std::string& name :
       {std::string(), std::string("Words"), std::string("2words"),
        std::string("../words"), std::string(65, 'w')}) {
    description = Words();
    description.set_name(name);
    EXPECT_EQ(CheckDescription(description).code(),
              absl::StatusCode::kInvalidArgument)
        << name;
  }
}

}  // namespace
}  // namespace temper
