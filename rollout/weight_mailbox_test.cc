#include "rollout/weight_mailbox.h"

#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"

namespace temper {
namespace {

std::vector<PublishedParameter> TwoParameters() {
  return {{.name = "a", .shape = {2, 3}}, {.name = "b", .shape = {4}}};
}

WeightManifest ManifestOf(const std::vector<PublishedParameter>& parameters) {
  WeightManifest manifest;
  manifest.set_version(3);
  for (const PublishedParameter& parameter : parameters) {
    WeightTensor* const tensor = manifest.add_tensors();
    tensor->set_name(parameter.name);
    tensor->set_dtype(FileTypeName(parameter.dtype));
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

WeightMailbox::Delivery Version(uint64_t version) {
  auto weights = std::make_shared<ReceivedWeights>();
  weights->manifest.set_version(version);
  return std::shared_ptr<const ReceivedWeights>(std::move(weights));
}

// The client hands a version over once.
TEST(WeightMailboxTest, AVersionIsNotLostToALaterError) {
  WeightMailbox mailbox;
  mailbox.Put(Version(3));
  mailbox.Put(absl::NotFoundError("version 4"));
  auto taken = mailbox.Take();
  ASSERT_TRUE(taken.has_value() && taken->ok());
  EXPECT_EQ((**taken)->manifest.version(), 3u);
  taken = mailbox.Take();
  ASSERT_TRUE(taken.has_value());
  EXPECT_EQ(taken->status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(mailbox.Take().has_value());
}

TEST(WeightMailboxTest, ALaterVersionReplacesWhatCameBefore) {
  WeightMailbox mailbox;
  mailbox.Put(Version(3));
  mailbox.Put(absl::NotFoundError("version 4"));
  mailbox.Put(Version(5));
  const auto taken = mailbox.Take();
  ASSERT_TRUE(taken.has_value() && taken->ok());
  EXPECT_EQ((**taken)->manifest.version(), 5u);
  EXPECT_FALSE(mailbox.Take().has_value());
}

TEST(WeightMailboxTest, ManifestOfTheModelFits) {
  EXPECT_TRUE(CheckManifest(ManifestOf(TwoParameters()), TwoParameters()).ok());
}

TEST(WeightMailboxTest, ManifestOfAnotherModelIsRefused) {
  std::vector<PublishedParameter> other = TwoParameters();
  other[1].shape = {5};
  const absl::Status shape = CheckManifest(ManifestOf(other), TwoParameters());
  EXPECT_EQ(shape.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(shape.message()).find("tensor 1 is b"),
            std::string::npos);
  other = TwoParameters();
  other[1].dtype = DType::kBF16;
  const absl::Status type = CheckManifest(ManifestOf(other), TwoParameters());
  EXPECT_EQ(type.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(type.message()).find("b is BF16"), std::string::npos);
  EXPECT_NE(std::string(type.message()).find("different versions of temper"),
            std::string::npos)
      << "a run has one numerics: nothing that the user could set";
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
