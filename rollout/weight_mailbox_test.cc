#include "rollout/weight_mailbox.h"

#include <string>

#include "gtest/gtest.h"

namespace temper {
namespace {

std::vector<Parameter> TwoParameters() {
  return {{.name = "a", .shape = {2, 3}}, {.name = "b", .shape = {4}}};
}

WeightManifest ManifestOf(const std::vector<Parameter>& parameters) {
  WeightManifest manifest;
  manifest.set_version(3);
  for (const Parameter& parameter : parameters) {
    WeightTensor* const tensor = manifest.add_tensors();
    tensor->set_name(parameter.name);
    for (const int64_t dim : parameter.shape) tensor->add_shape(dim);
  }
  return manifest;
}

TEST(WeightMailboxTest, NewestDeliveryIsTakenOnce) {
  WeightMailbox mailbox;
  EXPECT_FALSE(mailbox.Take().has_value());
  mailbox.Put(absl::UnavailableError("first"));
  mailbox.Put(absl::NotFoundError("second"));
  const auto taken = mailbox.Take();
  ASSERT_TRUE(taken.has_value());
  EXPECT_EQ(taken->status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(mailbox.Take().has_value());
}

TEST(WeightMailboxTest, ManifestOfTheModelFits) {
  EXPECT_TRUE(CheckManifest(ManifestOf(TwoParameters()), TwoParameters()).ok());
}

TEST(WeightMailboxTest, ManifestOfAnotherModelIsRefused) {
  std::vector<Parameter> other = TwoParameters();
  other[1].shape = {5};
  const absl::Status shape = CheckManifest(ManifestOf(other), TwoParameters());
  EXPECT_EQ(shape.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(shape.message()).find("tensor 1 is b"),
            std::string::npos);
  other = TwoParameters();
  other[0].name = "c";
  EXPECT_FALSE(CheckManifest(ManifestOf(other), TwoParameters()).ok());
  other = TwoParameters();
  other.pop_back();
  EXPECT_FALSE(CheckManifest(ManifestOf(other), TwoParameters()).ok());
  EXPECT_FALSE(CheckManifest(ManifestOf(TwoParameters()), other).ok());
}

}  // namespace
}  // namespace temper
