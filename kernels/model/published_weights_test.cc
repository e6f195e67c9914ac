#include "kernels/model/published_weights.h"

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/find_backend.h"
#include "kernels/model/test_model.h"
#include "kernels/model/transformer.h"
#include "kernels/ops/testing/counting_backend.h"
#include "kernels/reference/arithmetic.h"

namespace temper {
namespace {

class PublishedWeightsTest : public testing::Test {
 protected:
  PublishedWeightsTest() {
    SetFlushDenormals();
    backend_ = *FindBackend({});
  }

  // Final hidden states of a fixed batch: they go through every weight but the
  // head.
  std::vector<float> Hidden(const PublishedWeights& weights) {
    auto model = *Transformer::Create(backend_.get(), &weights, 64);
    const auto cache =
        *KvCache::Create(backend_.get(), config_, weights.numerics(), 1);
    TrainingBatch made =
        MakeTrainingBatch(config_, {{RandomTokens(config_, 1, 40)}});
    made.batch.page_tokens = kPageTokens;
    made.batch.blocks = {0};
    made.batch.blocks_max = 1;
    Tensor hidden;
    const absl::Status status =
        model->Forward(&made.batch, cache.get(), nullptr, {}, &hidden);
    EXPECT_TRUE(status.ok()) << status;
    return Floats(hidden);
  }

  // One logit of each token of the vocabulary.
  std::vector<float> Head(const PublishedWeights& weights) {
    const auto room =
        *backend_->Allocate(4 * (config_.hidden_size + config_.vocab_size));
    auto* const data = static_cast<float*>(room->data());
    const Tensor x(data, DType::kF32, {1, config_.hidden_size},
                   backend_->device());
    const Tensor y(data + config_.hidden_size, DType::kF32,
                   {1, config_.vocab_size}, backend_->device());
    const std::vector<float> ones(config_.hidden_size, 1);
    EXPECT_TRUE(backend_->CopyFromHost(ones.data(), x).ok());
    backend_->Linear(x, weights.lm_head(), Use::kForward, y);
    return Floats(y);
  }

  std::vector<float> Floats(const Tensor& x) {
    std::vector<float> values(x.elements());
    EXPECT_TRUE(backend_->Read(x, values.data()).ok());
    return values;
  }

  const ModelConfig config_ = TinyConfig();
  const std::vector<float> one_ = RandomValues(TinyConfig(), 5);
  const std::vector<float> two_ = RandomValues(TinyConfig(), 6);
  std::unique_ptr<Backend> backend_;
};

TEST_F(PublishedWeightsTest, BytesAreTheMastersAndMakeTheSameModel) {
  const TrainableModel trained = TrainableOf(backend_.get(), config_, one_);
  const auto bytes = *trained.weights->GetBytes();
  EXPECT_TRUE(bytes == BytesOf(one_));
  EXPECT_EQ(static_cast<int64_t>(bytes.size()),
            PublishedWeights::BytesFor(config_, kFp32));
  const auto sampler = *PublishedWeights::Create(backend_.get(), config_, kFp32,
                                                 Passes::kForward);
  ASSERT_TRUE(sampler->SetBytes(bytes).ok());
  EXPECT_EQ(Hidden(*sampler), Hidden(*trained.weights));
  EXPECT_EQ(Head(*sampler), Head(*trained.weights));
}

TEST_F(PublishedWeightsTest, PublishFollowsTheMasters) {
  for (const Numerics& numerics : {kFp32, kBf16, kFp8}) {
    const TrainableModel trained =
        TrainableOf(backend_.get(), config_, one_, numerics);
    const auto of_two = PublishedOf(backend_.get(), config_, two_,
                                    Passes::kForwardAndBackward, numerics);
    ASSERT_TRUE(trained.masters->SetValues(two_).ok());
    EXPECT_NE(Head(*trained.weights), Head(*of_two)) << "packed before";
    trained.weights->FollowMasters();
    EXPECT_EQ(Head(*trained.weights), Head(*of_two));
    EXPECT_EQ(Hidden(*trained.weights), Hidden(*of_two));
    EXPECT_TRUE(*trained.weights->GetBytes() == *of_two->GetBytes());
  }
}

// The test's own rounding, not the product's: what is published of masters, and
// read from a file or from the wire, is nearest even.
TEST_F(PublishedWeightsTest, InBf16BytesAreTheMastersRounded) {
  const TrainableModel trained =
      TrainableOf(backend_.get(), config_, one_, kBf16);
  const auto bytes = *trained.weights->GetBytes();
  ASSERT_EQ(static_cast<int64_t>(bytes.size()),
            PublishedWeights::BytesFor(config_, kBf16));
  const float* next = one_.data();
  for (const PublishedParameter& tensor : trained.weights->tensors()) {
    const size_t size = DTypeBytes(tensor.dtype);
    for (int64_t at = 0; at < tensor.bytes; at += size, ++next) {
      uint32_t bits = 0;  // a bf16 is a float's upper half
      std::memcpy(reinterpret_cast<char*>(&bits) + 4 - size,
                  bytes.data() + tensor.offset + at, size);
      const float want = size == 4 ? *next : reference::RoundToBf16(*next);
      ASSERT_EQ(std::bit_cast<float>(bits), want) << tensor.name;
    }
  }
  const auto sampler = *PublishedWeights::Create(backend_.get(), config_, kBf16,
                                                 Passes::kForward);
  ASSERT_TRUE(sampler->SetBytes(bytes).ok());
  EXPECT_EQ(Hidden(*sampler), Hidden(*trained.weights));
  EXPECT_EQ(Head(*sampler), Head(*trained.weights));
  EXPECT_NE(Hidden(*sampler),
            Hidden(*PublishedOf(backend_.get(), config_, one_)));
}

TEST_F(PublishedWeightsTest, ADirectoryIsPublishedAsItsMastersWouldBe) {
  const std::string dir = absl::StrCat(std::getenv("TEST_TMPDIR"), "/model");
  ASSERT_TRUE(MakeDirectories(dir).ok());
  const TrainableModel trained = TrainableOf(backend_.get(), config_, one_);
  ASSERT_TRUE(trained.masters->Save(dir, "F32").ok());
  for (const Numerics& numerics : {kFp32, kBf16, kFp8}) {
    const auto loaded = PublishedWeights::Load(backend_.get(), config_,
                                               numerics, Passes::kForward, dir);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    const auto published = PublishedWeights::Of(trained.masters.get(), numerics,
                                                Passes::kForwardAndBackward);
    ASSERT_TRUE(published.ok()) << published.status();
    EXPECT_TRUE(*(*loaded)->GetBytes() == *(*published)->GetBytes());
    EXPECT_EQ(Hidden(**loaded), Hidden(**published));
  }
}

// In codes again, of smaller scales where a block's largest was rounded down.
TEST_F(PublishedWeightsTest, InFp8ADirectoryOfItsOwnCodesComputesTheSame) {
  const std::string dir = absl::StrCat(std::getenv("TEST_TMPDIR"), "/codes");
  ASSERT_TRUE(MakeDirectories(dir).ok());
  const TrainableModel trained =
      TrainableOf(backend_.get(), config_, one_, kFp8);
  ASSERT_TRUE(trained.masters->Save(dir, "F8_E4M3").ok());
  const auto loaded = PublishedWeights::Load(backend_.get(), config_, kFp8,
                                             Passes::kForward, dir);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(Hidden(**loaded), Hidden(*trained.weights));
  EXPECT_EQ(Head(**loaded), Head(*trained.weights));
}

TEST_F(PublishedWeightsTest, OtherSizesAreRefusedAndChangeNothing) {
  const auto weights = PublishedOf(backend_.get(), config_, one_);
  EXPECT_EQ(weights->SetBytes(BytesOf({1, 2, 3})).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(*weights->GetBytes() == BytesOf(one_));
}

TEST_F(PublishedWeightsTest, TensorsTileTheBytes) {
  for (const Numerics& numerics : {kFp32, kBf16, kFp8}) {
    int64_t next = 0;
    for (const PublishedParameter& tensor : ListPublished(config_, numerics)) {
      EXPECT_EQ(tensor.offset, next) << tensor.name;
      int64_t elements = 1;
      for (const int64_t size : tensor.shape) elements *= size;
      EXPECT_EQ(tensor.bytes,
                elements * static_cast<int64_t>(DTypeBytes(tensor.dtype)));
      next += tensor.bytes;
    }
    EXPECT_EQ(next, PublishedWeights::BytesFor(config_, numerics));
  }
}

// DESIGN.md section 6, item 6: scales after their codes, of the reference's
// quantiser, and what has neither in bf16.
TEST_F(PublishedWeightsTest, InFp8BytesAreTheMastersQuantised) {
  const TrainableModel trained =
      TrainableOf(backend_.get(), config_, one_, kFp8);
  const auto bytes = *trained.weights->GetBytes();
  EXPECT_TRUE(bytes == *PublishedOf(backend_.get(), config_, one_,
                                    Passes::kForward, kFp8)
                            ->GetBytes());
  std::string codes;
  for (const PublishedParameter& tensor : trained.weights->tensors()) {
    const bool unscaled = tensor.name == "lm_head.weight" ||
                          tensor.name == "model.embed_tokens.weight";
    const bool fp32 = tensor.shape.size() == 1 ||
                      absl::StrContains(tensor.name, ".mlp.gate.weight") ||
                      absl::StrContains(tensor.name, "indexer.weights_proj");
    if (!codes.empty()) {
      EXPECT_TRUE(tensor.scales);
      EXPECT_EQ(tensor.name, codes + "_scale_inv");
      EXPECT_EQ(tensor.dtype, DType::kF32);
      codes.clear();
      continue;
    }
    EXPECT_FALSE(tensor.scales) << tensor.name;
    EXPECT_EQ(tensor.dtype, fp32       ? DType::kF32
                            : unscaled ? DType::kBF16
                                       : DType::kF8E4M3)
        << tensor.name;
    if (tensor.dtype == DType::kF8E4M3) codes = tensor.name;
  }
  const auto sampler = *PublishedWeights::Create(backend_.get(), config_, kFp8,
                                                 Passes::kForward);
  ASSERT_TRUE(sampler->SetBytes(bytes).ok());
  EXPECT_EQ(Hidden(*sampler), Hidden(*trained.weights));
  EXPECT_EQ(Head(*sampler), Head(*trained.weights));
  EXPECT_NE(Hidden(*sampler),
            Hidden(*PublishedOf(backend_.get(), config_, one_)));
}

TEST_F(PublishedWeightsTest, Fp8RefusesIndexHeadsThatItCannotRotate) {
  for (const int64_t dims : {12, 24, 256}) {
    ModelConfig config = config_;
    config.index_head_dim = dims;
    const auto weights =
        PublishedWeights::Create(backend_.get(), config, kFp8, Passes::kForward)
            .status();
    EXPECT_EQ(weights.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(
        absl::StrContains(weights.message(), absl::StrCat("index_head_dim")) &&
        absl::StrContains(weights.message(), absl::StrCat(dims)))
        << weights;
    EXPECT_TRUE(PublishedWeights::Create(backend_.get(), config, kBf16,
                                         Passes::kForward)
                    .ok());
  }
}

// DESIGN.md section 6, item 5.
TEST_F(PublishedWeightsTest, InBf16RouterIndexWeightsAndVectorsStayFp32) {
  for (const PublishedParameter& tensor : ListPublished(config_, kBf16)) {
    const auto named = [&](const char* part) {
      return tensor.name.find(part) != std::string::npos;
    };
    const bool fp32 = tensor.shape.size() == 1 || named(".mlp.gate.weight") ||
                      named("indexer.weights_proj");
    EXPECT_EQ(tensor.dtype, fp32 ? DType::kF32 : DType::kBF16) << tensor.name;
  }
}

TEST_F(PublishedWeightsTest, NoFp32NumberIsHeldTwiceAndASamplerPacksOnce) {
  for (const Numerics& numerics : {kFp32, kBf16, kFp8}) {
    CountingBackend counting(backend_.get());
    const TrainableModel trained =
        TrainableOf(&counting, config_, one_, numerics);
    const int64_t published = PublishedWeights::BytesFor(config_, numerics);
    // In FP8 that of which heads are packed is dequantised first, one matrix.
    const int64_t heads = config_.num_attention_heads *
                          (config_.qk_nope_head_dim + config_.v_head_dim);
    const int64_t dequantised =
        numerics == kFp8 ? 2 * heads * config_.kv_lora_rank : 0;
    EXPECT_EQ(counting.allocated_bytes(),
              MasterWeights::BytesFor(config_) + published + dequantised -
                  PublishedWeights::Fp32BytesFor(config_, numerics))
        << "what is published takes packings, its narrow bytes, nothing else";
    const int64_t before = counting.allocated_bytes();
    const auto sampler =
        PublishedOf(&counting, config_, one_, Passes::kForward, numerics);
    EXPECT_EQ(counting.allocated_bytes() - before, published + dequantised);
  }
  EXPECT_EQ(PublishedWeights::Fp32BytesFor(config_, kFp32),
            MasterWeights::BytesFor(config_));
  const int64_t one =
      PublishedWeights::PackingBytesFor(config_, kFp32, Passes::kForward);
  const int64_t both = PublishedWeights::PackingBytesFor(
      config_, kFp32, Passes::kForwardAndBackward);
  EXPECT_LT(one, PublishedWeights::BytesFor(config_, kFp32) * 5 / 4);
  EXPECT_GT(both, one * 3 / 2);
}

}  // namespace
}  // namespace temper
