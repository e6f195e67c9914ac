// A Backend for a whole model's trials in FP8: layers start from inputs that
// are given, select keys that are given, and what goes into an o_proj is noted.
// One flipped rounding of e4m3 then spreads no further than its layer, and two
// implementations can be compared (DESIGN.md section 6). Its device's memory
// must be the host's.

#ifndef TESTS_GIVEN_BACKEND_H_
#define TESTS_GIVEN_BACKEND_H_

#include <cstdint>
#include <map>
#include <vector>

#include "kernels/model/published_weights.h"
#include "kernels/ops/testing/forwarding_backend.h"
#include "kernels/tensor/numerics.h"

namespace temper {

// The FP8 of an implementation that simulates no bf16: what has no scales is
// fp32, and so are the latents, which a GivenBackend quantises and dequantises
// on their way to the strip.
inline constexpr Numerics kFp8OverFp32 = {DType::kF8E4M3, DType::kF32,
                                          DType::kF32, DType::kF8E4M3};

class GivenBackend : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  // By layers; an empty list: the model's own.
  struct Given {
    std::vector<std::vector<float>> inputs;      // the last is model.norm's
    std::vector<std::vector<int32_t>> selected;  // [N, K], -1 where none is
  };

  // Whose forwards are meant; it must outlive them.
  void Watch(const PublishedWeights& weights);
  void Give(Given given) { given_ = std::move(given); }
  // Of the last forward, by layers: rows that went into o_proj.
  const std::vector<std::vector<float>>& attention() const {
    return attention_;
  }

  void RmsNorm(const Tensor& x, const Tensor& w, float eps,
               const Tensor& y) override;
  void Linear(const Tensor& x, const Weight& w, Use use,
              const Tensor& y) override;
  void WriteKeys(const WriteKeysArgs& args) override;
  void IndexerSelect(const IndexerSelectArgs& args) override;

 private:
  Given given_;
  bool quantises_latents_ = false;
  std::map<const void*, size_t> layer_of_norm_;
  std::map<const Weight*, size_t> layer_of_o_proj_;
  size_t layer_ = 0;
  std::vector<std::vector<float>> attention_;
};

}  // namespace temper

#endif  // TESTS_GIVEN_BACKEND_H_
