// Model files that somebody damaged, by accident or on purpose: whatever a
// config.json or the header of a safetensors file says, opening the directory
// is a Status, soon and in little memory.

#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/rng.h"
#include "kernels/find_backend.h"
#include "kernels/model/config.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/published_weights.h"
#include "kernels/model/safetensors.h"
#include "kernels/model/test_model.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kRounds = 400;
constexpr int64_t kGrowthBytesMax = int64_t{512} << 20;

int64_t PeakBytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss << 10;
}

// Draws of one round.
class Dice {
 public:
  explicit Dice(uint64_t seed) : key_{.seed = seed} {}
  uint64_t Below(uint64_t limit) {
    const auto draw = static_cast<uint64_t>(static_cast<double>(Uniform(key_)) *
                                            static_cast<double>(limit));
    ++key_.ordinal;
    return std::min(draw, limit - 1);
  }
  template <typename T>
  const T& Of(const std::vector<T>& values) {
    return values[Below(values.size())];
  }

 private:
  RngKey key_;
};

Json Number(Dice* dice) {
  static const auto* numbers = new std::vector<Json>{
      0,          1,       2,       3,         16,        -1,
      255,        257,     512,     514,       1024,      4096,
      65536,      1 << 20, 1 << 24, INT32_MAX, INT64_MAX, INT64_MIN,
      UINT64_MAX, 1e300,   0.5,     nullptr,   "16",      Json::array({1}),
      true};
  return dice->Of(*numbers);
}

// A size that may well be in its key's own range.
Json Size(Dice* dice) { return uint64_t{1} << dice->Below(21); }

class ModelFileFuzzTest : public testing::Test {
 protected:
  void SetUp() override {
    SetFlushDenormals();
    backend_ = *FindBackend({});
    dir_ = absl::StrCat(
        getenv("TEST_TMPDIR"), "/",
        testing::UnitTest::GetInstance()->current_test_info()->name());
    ASSERT_TRUE(MakeDirectories(dir_).ok());
    const ModelConfig config = TinyConfig();
    ASSERT_TRUE(RandomMasters(backend_.get(), config, /*seed=*/3)
                    ->Save(dir_, "F32")
                    .ok());
    config_ = *ReadFile(dir_ + "/config.json", 1 << 20);
    weights_ = *ReadFile(dir_ + "/model.safetensors", 1 << 30);
    peak_ = PeakBytes();
  }

  // Through every door that a named model goes through.
  bool Opens() {
    const auto config = ReadModelConfig(dir_);
    if (!config.ok()) return false;
    const absl::Status files = WeightsFile::Open(*config, dir_).status();
    const auto weights = MasterWeights::Load(backend_.get(), *config, dir_);
    EXPECT_TRUE(files.ok() || !weights.ok()) << files;
    const auto published = PublishedWeights::Load(
        backend_.get(), *config, kFp32, Passes::kForward, dir_);
    EXPECT_EQ(published.status(), weights.status());
    return weights.ok();
  }

  void Write(const std::string& name, const std::string& bytes) {
    ASSERT_TRUE(WriteFileDurably(dir_ + "/" + name, bytes).ok());
  }

  void ExpectLittleMemory() { EXPECT_LT(PeakBytes() - peak_, kGrowthBytesMax); }

  std::string dir_;
  std::unique_ptr<Backend> backend_;
  std::string config_, weights_;
  int64_t peak_ = 0;
};

TEST_F(ModelFileFuzzTest, WhateverConfigJsonSaysIsAStatus) {
  ASSERT_TRUE(Opens());
  const Json good = Json::parse(config_);
  std::vector<std::string> keys, sizes;
  for (const auto& [key, value] : good.items()) {
    keys.push_back(key);
    if (value.is_number_integer()) sizes.push_back(key);
  }
  uint64_t opened = 0;
  for (uint64_t seed = 0; seed < kRounds; ++seed) {
    Dice dice(seed);
    Json json = good;
    const bool in_range = dice.Below(2) == 0;
    for (uint64_t i = dice.Below(4); i < (in_range ? 12 : 4); ++i) {
      json[dice.Of(in_range ? sizes : keys)] =
          in_range ? Size(&dice) : Number(&dice);
    }
    if (in_range) {
      json["num_hidden_layers"] = uint64_t{1} << dice.Below(11);
      json["n_routed_experts"] = uint64_t{256} << dice.Below(9);
      json["n_group"] = json["topk_group"] = json["first_k_dense_replace"] = 1;
      json["num_experts_per_tok"] = 2;
      json["num_key_value_heads"] = json["num_attention_heads"];
    }
    std::string text = json.dump();
    if (dice.Below(8) == 0) text.resize(dice.Below(text.size()));
    Write("config.json", text);
    opened += Opens();
  }
  EXPECT_LT(opened, kRounds / 2);  // most were damaged
  ExpectLittleMemory();
}

// A header that is still one, with some tensor's entry changed.
std::string MutatedHeader(const std::string& file, Dice* dice) {
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  Json header = Json::parse(file.substr(8, length));
  std::vector<std::string> names;
  for (const auto& [name, value] : header.items()) names.push_back(name);
  for (uint64_t i = dice->Below(3); i < 3; ++i) {
    Json& entry = header[dice->Of(names)];
    if (!entry.is_object()) continue;
    switch (dice->Below(6)) {
      case 0:
        entry["dtype"] = dice->Of(std::vector<std::string>{
            "F32", "BF16", "U8", "F64", "F8_E4M3", "C128", ""});
        break;
      case 1:
        entry["shape"] = Json::array({Number(dice), Number(dice)});
        break;
      case 2:
        entry["data_offsets"] = Json::array({Number(dice), Number(dice)});
        break;
      case 3:
        entry["shape"] = Json::array();
        for (int d = 0; d < 9; ++d) entry["shape"].push_back(INT64_MAX);
        break;
      case 4:
        entry = Number(dice);
        break;
      default:
        entry["more"] = 1;
        break;
    }
  }
  const std::string text = header.dump();
  length = dice->Below(6) == 0 ? Number(dice).is_number_unsigned()
                                     ? UINT64_MAX - dice->Below(16)
                                     : dice->Below(2 * text.size())
                               : text.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  uint64_t old_length = 0;
  std::memcpy(&old_length, file.data(), 8);
  return bytes + text + file.substr(8 + old_length);
}

TEST_F(ModelFileFuzzTest, WhateverASafetensorsHeaderSaysIsAStatus) {
  ASSERT_TRUE(Opens());
  for (uint64_t seed = 0; seed < kRounds / 4; ++seed) {
    Dice dice(seed);
    std::string file;
    if (dice.Below(3) == 0) {  // any bytes of the header and its length
      file = weights_;
      for (int i = 0; i < 4; ++i) {
        file[dice.Below(4096)] = static_cast<char>(dice.Below(256));
      }
    } else {
      file = MutatedHeader(weights_, &dice);
    }
    if (dice.Below(4) == 0) file.resize(dice.Below(file.size()));
    Write("model.safetensors", file);
    Opens();
  }
  ExpectLittleMemory();
}

}  // namespace
}  // namespace temper
