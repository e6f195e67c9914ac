#include "proto/wire/weight_wire.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/checksum.h"

namespace temper {
namespace {

// Two tensors, 2x3 F32 and 4 BF16, over these bytes.
WeightManifest Manifest(const std::string& bytes) {
  WeightManifest manifest;
  manifest.set_wire_version(kWeightWireVersion);
  manifest.set_run("trial");
  manifest.set_version(5);
  WeightTensor* a = manifest.add_tensors();
  a->set_name("a");
  a->set_dtype("F32");
  a->add_shape(2);
  a->add_shape(3);
  a->set_size_bytes(24);
  a->set_crc32c(Crc32c(bytes.data(), 24));
  WeightTensor* b = manifest.add_tensors();
  b->set_name("b");
  b->set_dtype("BF16");
  b->add_shape(4);
  b->set_offset(24);
  b->set_size_bytes(8);
  b->set_crc32c(Crc32c(bytes.data() + 24, 8));
  manifest.set_total_bytes(32);
  manifest.set_sha256(Sha256Of(bytes));
  return manifest;
}

const std::string kBytes = "0123456789abcdef0123456789ABCDEF";

TEST(WeightWireTest, AGoodManifestPassesAndEachDefectIsRefused) {
  const WeightManifest good = Manifest(kBytes);
  EXPECT_TRUE(CheckWeightManifest(good, "trial", 5, 32).ok());
  EXPECT_FALSE(CheckWeightManifest(good, "other", 5, 32).ok());
  EXPECT_FALSE(CheckWeightManifest(good, "trial", 6, 32).ok());
  EXPECT_FALSE(CheckWeightManifest(good, "trial", 5, 31).ok());
  const auto refused = [&](auto spoil) {
    WeightManifest bad = good;
    spoil(&bad);
    return !CheckWeightManifest(bad, "trial", 5, 1000).ok();
  };
  using M = WeightManifest*;
  EXPECT_TRUE(refused([](M m) { m->set_wire_version(2); }));
  EXPECT_TRUE(refused([](M m) { m->set_sha256("short"); }));
  EXPECT_TRUE(refused([](M m) { m->set_total_bytes(33); }));
  EXPECT_TRUE(refused([](M m) { m->mutable_tensors(1)->set_offset(25); }));
  EXPECT_TRUE(refused([](M m) { m->mutable_tensors(0)->set_shape(0, 3); }));
  EXPECT_TRUE(refused([](M m) { m->mutable_tensors(0)->set_dtype("F64"); }));
  EXPECT_TRUE(refused([](M m) { m->mutable_tensors(0)->set_shape(0, -2); }));
  EXPECT_TRUE(refused(
      [](M m) { m->mutable_tensors(0)->set_shape(0, int64_t{1} << 62); }));
  EXPECT_TRUE(refused([](M m) { m->clear_tensors(); }));
}

TEST(WeightWireTest, ADamagedTensorIsNamedAndTheWholeIsChecked) {
  WeightManifest manifest = Manifest(kBytes);
  EXPECT_TRUE(VerifyWeights(manifest, kBytes.data()).ok());
  std::string damaged = kBytes;
  damaged[25] ^= 1;
  const absl::Status status = VerifyWeights(manifest, damaged.data());
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("tensor b"));
  manifest.set_sha256(Sha256Of("else"));
  EXPECT_TRUE(absl::IsDataLoss(VerifyWeights(manifest, kBytes.data())));
}

}  // namespace
}  // namespace temper
