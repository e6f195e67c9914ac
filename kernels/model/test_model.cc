#include "kernels/model/test_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/base/log.h"
#include "kernels/base/rng.h"
#include "kernels/reference/quantised.h"
#include "kernels/tensor/bf16.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

constexpr uint32_t kTokenSample = 1;  // weights use sample 0

}  // namespace

ModelConfig TinyConfig() {
  ModelConfig c;
  c.vocab_size = 61;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.moe_intermediate_size = 20;
  c.num_hidden_layers = 3;
  c.first_k_dense_replace = 1;
  c.num_attention_heads = 4;
  c.q_lora_rank = 24;
  c.kv_lora_rank = 16;
  c.qk_nope_head_dim = 8;
  c.qk_rope_head_dim = 8;
  c.v_head_dim = 8;
  c.index_n_heads = 3;
  c.index_head_dim = 16;
  c.index_topk = 16;
  c.n_routed_experts = 8;
  c.n_shared_experts = 1;
  c.num_experts_per_tok = 2;
  c.n_group = 2;
  c.topk_group = 1;
  c.routed_scaling_factor = 1.5;
  c.max_position_embeddings = 512;
  return c;
}

std::vector<float> RandomValues(const ModelConfig& config, uint64_t seed) {
  std::vector<float> values;
  for (const Parameter& p : ListParameters(config)) {
    const bool norm = p.name.find("norm.weight") != std::string::npos;
    const double scale = p.shape.size() >= 2
                             ? 1 / std::sqrt(static_cast<double>(p.shape[1]))
                             : 0.1;
    for (int64_t i = 0; i < p.elements; ++i) {
      const double x = Normal({seed, RngPurpose::kTest,
                               static_cast<uint64_t>(values.size()), 0, 0});
      values.push_back(static_cast<float>(scale * x + (norm ? 1 : 0)));
    }
  }
  return values;
}

std::unique_ptr<MasterWeights> RandomMasters(Backend* backend,
                                             const ModelConfig& config,
                                             uint64_t seed) {
  auto weights = MasterWeights::Create(backend, config);
  CHECK(weights.ok()) << weights.status();
  const absl::Status set = (*weights)->SetValues(RandomValues(config, seed));
  CHECK(set.ok()) << set;
  return *std::move(weights);
}

std::unique_ptr<PublishedWeights> RandomModel(Backend* backend,
                                              const ModelConfig& config,
                                              uint64_t seed, Passes passes,
                                              const Numerics& numerics) {
  return PublishedOf(backend, config, RandomValues(config, seed), passes,
                     numerics);
}

std::vector<std::byte> BytesOf(const std::vector<float>& values) {
  const auto* const begin = reinterpret_cast<const std::byte*>(values.data());
  return {begin, begin + values.size() * sizeof(float)};
}

namespace {

std::vector<std::byte> PublishedBytes(const ModelConfig& config,
                                      const Numerics& numerics,
                                      const std::vector<float>& values) {
  std::vector<std::byte> bytes(PublishedWeights::BytesFor(config, numerics));
  const float* next = values.data();
  reference::Quantised quantised;
  for (const PublishedParameter& tensor : ListPublished(config, numerics)) {
    std::byte* const to = bytes.data() + tensor.offset;
    if (tensor.scales) {  // of the codes before them
      std::memcpy(to, quantised.scales.data(),
                  static_cast<size_t>(tensor.bytes));
      continue;
    }
    const auto count =
        tensor.bytes / static_cast<int64_t>(DTypeBytes(tensor.dtype));
    if (tensor.dtype == DType::kF32) {
      std::memcpy(to, next, static_cast<size_t>(tensor.bytes));
    } else if (tensor.dtype == DType::kF8E4M3) {
      quantised =
          reference::QuantiseWeight({next, next + count}, tensor.shape[1]);
      std::transform(quantised.codes.begin(), quantised.codes.end(),
                     reinterpret_cast<F8E4M3*>(to), E4M3FromFloat);
    } else {
      auto* const narrow = reinterpret_cast<BF16*>(to);
      std::transform(next, next + count, narrow, BF16FromFloat);
    }
    next += count;
  }
  return bytes;
}

}  // namespace

std::unique_ptr<PublishedWeights> PublishedOf(Backend* backend,
                                              const ModelConfig& config,
                                              const std::vector<float>& values,
                                              Passes passes,
                                              const Numerics& numerics) {
  auto weights = PublishedWeights::Create(backend, config, numerics, passes);
  CHECK(weights.ok()) << weights.status();
  SetValues(values, weights->get());
  return *std::move(weights);
}

void SetValues(const std::vector<float>& values, PublishedWeights* weights) {
  const absl::Status set = weights->SetBytes(
      PublishedBytes(weights->config(), weights->numerics(), values));
  CHECK(set.ok()) << set;
}

std::vector<float> ValuesOf(const PublishedWeights& weights) {
  const auto bytes = weights.GetBytes();
  CHECK(bytes.ok()) << bytes.status();
  std::vector<float> values(bytes->size() / sizeof(float));
  std::memcpy(values.data(), bytes->data(), bytes->size());
  return values;
}

TrainableModel TrainableOf(Backend* backend, const ModelConfig& config,
                           const std::vector<float>& values,
                           const Numerics& numerics) {
  TrainableModel model;
  model.masters = *MasterWeights::Create(backend, config);
  const absl::Status set = model.masters->SetValues(values);
  CHECK(set.ok()) << set;
  auto weights = PublishedWeights::Of(model.masters.get(), numerics,
                                      Passes::kForwardAndBackward);
  CHECK(weights.ok()) << weights.status();
  model.weights = *std::move(weights);
  return model;
}

std::vector<int32_t> RandomTokens(const ModelConfig& config, uint64_t seed,
                                  int64_t count) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(UniformBelow(
        {seed, RngPurpose::kTest, static_cast<uint64_t>(i), kTokenSample, 0},
        static_cast<uint64_t>(config.vocab_size))));
  }
  return tokens;
}

TrainingBatch MakeTrainingBatch(
    const ModelConfig& config, const std::vector<TrainingSequence>& sequences) {
  TrainingBatch made;
  TokenBatch& batch = made.batch;
  batch.page_tokens = 1;
  for (const TrainingSequence& sequence : sequences) {
    batch.blocks_max = std::max(batch.blocks_max,
                                static_cast<int32_t>(sequence.tokens.size()));
    std::vector<int32_t> rows;
    if (sequence.parent >= 0) {
      const std::vector<int32_t>& parent = made.rows[sequence.parent];
      rows.assign(parent.begin(), parent.begin() + sequence.shared);
    }
    for (size_t p = rows.size(); p < sequence.tokens.size(); ++p) {
      const int32_t row = static_cast<int32_t>(batch.tokens.size());
      batch.tokens.push_back(sequence.tokens[p]);
      batch.position.push_back(static_cast<int32_t>(p));
      batch.sequence.push_back(static_cast<int32_t>(made.rows.size()));
      batch.slot.push_back(row);
      rows.push_back(row);
    }
    made.rows.push_back(std::move(rows));
  }
  for (const std::vector<int32_t>& rows : made.rows) {
    batch.blocks.insert(batch.blocks.end(), rows.begin(), rows.end());
    batch.blocks.resize(batch.blocks.size() + batch.blocks_max - rows.size(),
                        -1);
  }
  batch.routes.assign(
      batch.tokens.size() * config.moe_layers() * config.num_experts_per_tok,
      -1);
  return made;
}

}  // namespace temper
