#include "kernels/model/master_weights.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/find_backend.h"
#include "kernels/model/published_weights.h"
#include "kernels/model/safetensors.h"
#include "kernels/model/test_model.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

class MasterWeightsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SetFlushDenormals();
    backend_ = *FindBackend({});
    config_.num_nextn_predict_layers = 1;
  }

  std::string Dir(const std::string& name) {
    const std::string dir = absl::StrCat(std::getenv("TEST_TMPDIR"), "/", name);
    EXPECT_TRUE(MakeDirectories(dir).ok());
    return dir;
  }

  // A checkpoint as another program would write it: sorted by name, with an
  // MTP tensor of a dtype that we do not read. `spoil` may change it.
  using Entries = std::map<std::string, SafetensorsEntry>;
  std::string Checkpoint(const std::string& name,
                         const std::function<void(Entries*)>& spoil) {
    const std::vector<Parameter> parameters = ListParameters(config_);
    Entries entries;
    for (const Parameter& p : parameters) {
      entries[p.name] = {p.name, "F32", p.shape,
                         reinterpret_cast<const std::byte*>(&values_[p.offset]),
                         static_cast<uint64_t>(p.elements) * 4};
    }
    entries[kMtp] = {
        kMtp, "F8_E4M3", {3}, reinterpret_cast<const std::byte*>("xyz"), 3};
    spoil(&entries);
    std::vector<SafetensorsEntry> list;
    for (const auto& [key, entry] : entries) list.push_back(entry);
    const std::string dir = Dir(name);
    EXPECT_TRUE(WriteSafetensors(dir + "/model.safetensors", list).ok());
    return dir;
  }

  static constexpr char kMtp[] = "model.layers.3.eh_proj.weight";
  ModelConfig config_ = TinyConfig();
  std::vector<float> values_ = RandomValues(TinyConfig(), 5);
  std::unique_ptr<Backend> backend_;
};

TEST_F(MasterWeightsTest, LoadsSavesAndCarriesMtpTensorsByteForByte) {
  const std::string dir = Checkpoint("plain", [](Entries*) {});
  auto weights = MasterWeights::Load(backend_.get(), config_, dir);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->GetValues(), values_);
  const std::string saved = Dir("saved");
  ASSERT_TRUE((*weights)->Save(saved, "F32").ok());
  auto config = ReadModelConfig(saved);
  ASSERT_TRUE(config.ok()) << config.status();
  auto again = MasterWeights::Load(backend_.get(), *config, saved);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->GetValues(), values_);
  ASSERT_EQ((*again)->carried().size(), 1u);
  EXPECT_EQ((*again)->carried()[0].name, kMtp);
  EXPECT_EQ((*again)->carried()[0].dtype, "F8_E4M3");
  EXPECT_EQ((*again)->carried()[0].bytes, "xyz");
}

TEST_F(MasterWeightsTest, SavingInBf16RoundsMatricesAndIsThenStable) {
  auto weights = MasterWeights::Load(backend_.get(), config_,
                                     Checkpoint("bf16in", [](Entries*) {}));
  ASSERT_TRUE(weights.ok()) << weights.status();
  const std::string one = Dir("bf16"), two = Dir("bf16again");
  ASSERT_TRUE((*weights)->Save(one, "BF16").ok());
  auto rounded = MasterWeights::Load(backend_.get(), config_, one);
  ASSERT_TRUE(rounded.ok()) << rounded.status();
  const std::vector<float> got = (*rounded)->GetValues();
  for (const Parameter& p : (*weights)->parameters()) {
    for (int64_t i = p.offset; i < p.offset + p.elements; ++i) {
      if (p.shape.size() == 1) {
        ASSERT_EQ(got[i], values_[i]) << p.name;
      } else {
        ASSERT_LE(std::abs(got[i] - values_[i]), std::abs(values_[i]) / 256)
            << p.name;
      }
    }
  }
  EXPECT_NE(got, values_);
  ASSERT_TRUE((*rounded)->Save(two, "BF16").ok());
  EXPECT_EQ(*ReadFile(one + "/model.safetensors", 1 << 30),
            *ReadFile(two + "/model.safetensors", 1 << 30));
  EXPECT_FALSE((*rounded)->Save(two, "F16").ok());
}

// Every tensor of the file, but `carried` others, is what fp8 publishes.
void ExpectAsPublished(const MasterWeights& weights, const std::string& dir,
                       size_t carried) {
  const auto file = Safetensors::OpenModel(dir);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto published =
      *PublishedWeights::Of(&weights, kFp8, Passes::kForward);
  const auto bytes = *published->GetBytes();
  for (const PublishedParameter& tensor : published->tensors()) {
    const SafetensorsEntry* entry = (*file)->Find(tensor.name);
    ASSERT_NE(entry, nullptr) << tensor.name;
    EXPECT_EQ(entry->dtype, FileTypeName(tensor.dtype)) << tensor.name;
    EXPECT_EQ(entry->shape, tensor.shape) << tensor.name;
    ASSERT_EQ(static_cast<int64_t>(entry->bytes), tensor.bytes);
    EXPECT_EQ(
        std::memcmp(entry->data, bytes.data() + tensor.offset, entry->bytes), 0)
        << tensor.name;
  }
  EXPECT_EQ((*file)->entries().size(), published->tensors().size() + carried);
}

// Of more rows than are written at a time.
TEST_F(MasterWeightsTest, ALargeMatrixIsQuantisedInWholeSquares) {
  ModelConfig config = TinyConfig();
  config.num_hidden_layers = config.first_k_dense_replace = 1;
  config.hidden_size = 520;
  config.intermediate_size = 2100;
  const auto weights = RandomMasters(backend_.get(), config, 9);
  ASSERT_TRUE(weights->Save(Dir("large8"), "F8_E4M3").ok());
  ExpectAsPublished(*weights, Dir("large8"), 0);
}

// Of the dimensions here no block is whole: the edges cut all of them.
TEST_F(MasterWeightsTest, SavingInF8E4M3StoresWhatFp8PublishesAndKeepsIt) {
  auto weights = MasterWeights::Load(backend_.get(), config_,
                                     Checkpoint("plain8", [](Entries*) {}));
  ASSERT_TRUE(weights.ok()) << weights.status();
  const std::string one = Dir("f8"), two = Dir("f8again");
  ASSERT_TRUE((*weights)->Save(one, "F8_E4M3").ok());
  ExpectAsPublished(**weights, one, /*carried=*/1);  // MTP
  const auto codes = WeightsFile::Open(config_, one)->CountCodes();
  ASSERT_TRUE(codes.ok()) << codes.status();
  EXPECT_GT(codes->matrices, 20);
  EXPECT_EQ(codes->of_other_scales, 0);
  const auto config = ReadModelConfig(one);
  ASSERT_TRUE(config.ok()) << config.status();
  auto read = MasterWeights::Load(backend_.get(), *config, one);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_NE((*read)->GetValues(), values_);
  ASSERT_TRUE((*read)->Save(two, "F8_E4M3").ok());
  auto again = MasterWeights::Load(backend_.get(), *config, two);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->GetValues(), (*read)->GetValues());
}

TEST_F(MasterWeightsTest, SavingInF8E4M3RefusesWhatNoScaleFitsByItsName) {
  values_[1000] = 3.4e38f;
  auto weights = MasterWeights::Create(backend_.get(), TinyConfig());
  ASSERT_TRUE((*weights)->SetValues(values_).ok());
  EXPECT_TRUE((*weights)->Save(Dir("vast"), "F8_E4M3").ok())
      << "the embedding has no codes";
  const Parameter& p = (*weights)->parameters()[2];
  values_[p.offset + 1] = 3.4e38f;
  ASSERT_TRUE((*weights)->SetValues(values_).ok());
  const absl::Status refused = (*weights)->Save(Dir("vast"), "F8_E4M3");
  EXPECT_EQ(refused.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(absl::StrContains(refused.message(), p.name)) << refused;
}

TEST_F(MasterWeightsTest, CodesOfOtherScalesAreTheirValues) {
  const std::string name = "model.layers.1.self_attn.q_b_proj.weight";
  std::string codes;
  std::vector<float> scales = {0.75f}, wanted;
  Entries made;
  const std::string dir = Checkpoint("other", [&](Entries* e) {
    for (int64_t i = 0; i < (*e)[name].elements(); ++i) {
      const auto code = static_cast<uint8_t>(i % 251 == 127 ? 0 : i % 251);
      codes.push_back(static_cast<char>(code));
      wanted.push_back(FloatFromE4M3({code}) * 0.75f);
    }
    (*e)[name].dtype = "F8_E4M3";
    (*e)[name].data = reinterpret_cast<const std::byte*>(codes.data());
    (*e)[name].bytes = codes.size();
    (*e)[name + "_scale_inv"] = {
        name + "_scale_inv",
        "F32",
        {1, 1},
        reinterpret_cast<const std::byte*>(scales.data()),
        4};
    made = *e;
  });
  const auto weights = MasterWeights::Load(backend_.get(), config_, dir);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const Tensor values = (*weights)->value(name);
  EXPECT_EQ(std::vector<float>(values.as<float>(),
                               values.as<float>() + values.elements()),
            wanted);
  const auto counted = WeightsFile::Open(config_, dir)->CountCodes();
  ASSERT_TRUE(counted.ok()) << counted.status();
  EXPECT_EQ(counted->matrices, 1);
  EXPECT_EQ(counted->of_other_scales, 1);
  // And what is wrong with them is told by their name.
  const auto refusal = [&](const std::function<void(Entries*)>& spoil) {
    const std::string spoiled = Checkpoint("other", [&](Entries* e) {
      *e = made;
      spoil(e);
    });
    const auto file = WeightsFile::Open(config_, spoiled);
    const absl::Status status =
        file.ok() ? file->CountCodes().status() : file.status();
    EXPECT_TRUE(absl::StrContains(status.message(), name + "_scale_inv"))
        << status;
    EXPECT_EQ(MasterWeights::Load(backend_.get(), config_, spoiled).status(),
              status);
    return std::string(status.message());
  };
  const auto says = [](const std::string& text, const std::string& part) {
    return absl::StrContains(text, part);
  };
  EXPECT_TRUE(says(refusal([&](Entries* e) { e->erase(name + "_scale_inv"); }),
                   "missing"));
  EXPECT_TRUE(
      says(refusal([&](Entries* e) { (*e)[name + "_scale_inv"].shape = {1}; }),
           "must have the shape [1, 1]"));
  EXPECT_TRUE(says(
      refusal([&](Entries* e) { (*e)[name + "_scale_inv"].dtype = "I32"; }),
      "must be F32"));
  EXPECT_TRUE(
      says(refusal([&](Entries*) { scales[0] = -1; }), "holds the scale -1"));
  scales[0] = 0.75f;
  // Scales of what has no codes.
  EXPECT_TRUE(says(refusal([&](Entries* e) {
                     (*e)[name].dtype = "F32";
                     (*e)[name].data =
                         reinterpret_cast<const std::byte*>(values_.data());
                     (*e)[name].bytes *= 4;
                   }),
                   "is not expected"));
}

TEST_F(MasterWeightsTest, ASavedConfigNamesTheDtypeThatWasWritten) {
  const auto written = [&](const std::string& keys, const std::string& dtype) {
    std::string json = ModelConfigToJson(TinyConfig());
    json.insert(json.find('{') + 1, keys);
    const auto config = ParseModelConfig(json);
    EXPECT_TRUE(config.ok()) << config.status();
    auto weights = MasterWeights::Create(backend_.get(), *config);
    const std::string dir = Dir("dtype");
    EXPECT_TRUE((*weights)->Save(dir, dtype).ok());
    return *ReadFile(dir + "/config.json", 1 << 20);
  };
  const std::string half = "\"torch_dtype\": \"bfloat16\"";
  const std::string full = "\"torch_dtype\": \"float32\"";
  EXPECT_TRUE(absl::StrContains(written("", "BF16"), half));
  EXPECT_TRUE(absl::StrContains(written(half + ",", "F32"), full));
  EXPECT_TRUE(absl::StrContains(written(full + ",", "F8_E4M3"), half));
  EXPECT_TRUE(absl::StrContains(written("", "F8_E4M3"), "\"ue8m0\""));
  const std::string newer =
      written("\"dtype\": \"bfloat16\", \"pad_token_id\": 2,", "F32");
  EXPECT_TRUE(absl::StrContains(newer, "\"dtype\": \"float32\""));
  EXPECT_TRUE(absl::StrContains(newer, "\"pad_token_id\": 2"));
  EXPECT_FALSE(absl::StrContains(newer, "torch_dtype"));
}

TEST_F(MasterWeightsTest, RefusesCheckpointsThatDoNotFitNamingTheTensor) {
  const std::string name = "model.layers.1.mlp.experts.3.up_proj.weight";
  std::vector<float> infinite(32, std::numeric_limits<float>::infinity());
  const auto refused = [&](const std::string& tensor,
                           const std::function<void(Entries*)>& spoil,
                           bool by_values = false) {
    const std::string dir = Checkpoint("spoiled", spoil);
    const auto weights = MasterWeights::Load(backend_.get(), config_, dir);
    ASSERT_FALSE(weights.ok());
    EXPECT_TRUE(
        absl::StrContains(std::string(weights.status().message()), tensor))
        << weights.status();
    const absl::Status files = WeightsFile::Open(config_, dir).status();
    EXPECT_EQ(files, by_values ? absl::OkStatus() : weights.status());
  };
  refused(name, [&](Entries* e) { e->erase(name); });
  refused(name, [&](Entries* e) {
    std::swap((*e)[name].shape[0], (*e)[name].shape[1]);
  });
  refused(
      name, [&](Entries* e) { (*e)[name].dtype = "I32"; }, /*by_values=*/true);
  refused(
      "model.norm.weight",
      [&](Entries* e) {
        (*e)["model.norm.weight"].data =
            reinterpret_cast<const std::byte*>(infinite.data());
      },
      /*by_values=*/true);
  refused("model.layers.4.x", [&](Entries* e) {
    (*e)["model.layers.4.x"] = (*e)[kMtp];
    (*e)["model.layers.4.x"].name = "model.layers.4.x";
  });
  refused("model.layers.3.", [&](Entries* e) { e->erase(kMtp); });
}

TEST_F(MasterWeightsTest, ParametersTileTheBufferAndCountAsTheConfigSays) {
  int64_t next = 0;
  for (const Parameter& p : ListParameters(config_)) {
    EXPECT_EQ(p.offset, next) << p.name;
    next += p.elements;
    const bool indexer = absl::StrContains(p.name, ".indexer.");
    const bool bias = absl::StrContains(p.name, "e_score_correction_bias");
    EXPECT_EQ(p.group, indexer ? ParameterGroup::kIndexer
                       : bias  ? ParameterGroup::kBias
                               : ParameterGroup::kMain)
        << p.name;
    EXPECT_EQ(p.decays, p.shape.size() == 2) << p.name;
  }
  EXPECT_EQ(next, config_.parameter_count());
}

TEST_F(MasterWeightsTest, OtherSizesAreRefusedAndChangeNothing) {
  const auto weights = RandomMasters(backend_.get(), TinyConfig(), 5);
  EXPECT_EQ(weights->GetValues(), values_);
  EXPECT_FALSE(weights->SetValues({1, 2, 3}).ok());
  EXPECT_EQ(weights->GetValues(), values_);
  const std::vector<float> other = RandomValues(TinyConfig(), 6);
  ASSERT_TRUE(weights->SetValues(other).ok());
  EXPECT_EQ(weights->GetValues(), other);
}

}  // namespace
}  // namespace temper
