#include "tests/given_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/base/log.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

// What codes and scales make of the first `columns` of a row.
void QuantiseInPlace(float* row, int64_t columns) {
  for (int64_t k = 0; k < columns; k += kScaleBlock) {
    float* const end = row + std::min(columns, k + kScaleBlock);
    float largest = 0;
    for (float* x = row + k; x < end; ++x) {
      largest = LargerMagnitude(largest, *x);
    }
    const float scale = BlockScale(largest);
    for (float* x = row + k; x < end; ++x) {
      *x = FloatFromE4M3(E4M3FromFloat(*x / scale)) * scale;
    }
  }
}

}  // namespace

void GivenBackend::Watch(const PublishedWeights& weights) {
  quantises_latents_ = weights.numerics() == kFp8OverFp32;
  const auto layers = static_cast<size_t>(weights.config().num_hidden_layers);
  for (size_t l = 0; l < layers; ++l) {
    const LayerWeights& layer = weights.layer(static_cast<int64_t>(l));
    layer_of_norm_[layer.input_layernorm.data()] = l;
    layer_of_o_proj_[layer.o_proj.get()] = l;
  }
  layer_of_norm_[weights.norm().data()] = layers;
  attention_.resize(layers);
}

void GivenBackend::RmsNorm(const Tensor& x, const Tensor& w, float eps,
                           const Tensor& y) {
  const auto found = layer_of_norm_.find(w.data());
  if (found != layer_of_norm_.end()) {
    layer_ = found->second;
    if (layer_ < given_.inputs.size() && !given_.inputs[layer_].empty()) {
      const std::vector<float>& rows = given_.inputs[layer_];
      CHECK(x.contiguous()) << x.DebugString();
      CHECK_EQ(x.elements(), static_cast<int64_t>(rows.size()));
      std::copy(rows.begin(), rows.end(), x.as<float>());
    }
  }
  ForwardingBackend::RmsNorm(x, w, eps, y);
}

void GivenBackend::Linear(const Tensor& x, const Weight& w, Use use,
                          const Tensor& y) {
  const auto found = layer_of_o_proj_.find(&w);
  if (use == Use::kForward && found != layer_of_o_proj_.end()) {
    CHECK(x.contiguous()) << x.DebugString();
    attention_[found->second].assign(x.as<float>(),
                                     x.as<float>() + x.elements());
  }
  ForwardingBackend::Linear(x, w, use, y);
}

void GivenBackend::WriteKeys(const WriteKeysArgs& args) {
  if (quantises_latents_) {
    CHECK(args.latent.contiguous()) << args.latent.DebugString();
    const int64_t columns = args.latent.dim(1);
    for (int64_t n = 0; n < args.latent.dim(0); ++n) {
      QuantiseInPlace(args.latent.as<float>() + n * columns,
                      columns - args.rope);
    }
  }
  ForwardingBackend::WriteKeys(args);
}

void GivenBackend::IndexerSelect(const IndexerSelectArgs& args) {
  ForwardingBackend::IndexerSelect(args);
  if (layer_ >= given_.selected.size() || given_.selected[layer_].empty()) {
    return;
  }
  const std::vector<int32_t>& selected = given_.selected[layer_];
  CHECK(args.selected.contiguous()) << args.selected.DebugString();
  CHECK_EQ(args.selected.elements(), static_cast<int64_t>(selected.size()));
  std::copy(selected.begin(), selected.end(), args.selected.as<int32_t>());
}

}  // namespace temper
