// A model as it is run: the published bytes of every parameter, in the types of
// the run's numerics, and the backend's packings of the matrices, made from
// them. Sampler, reference and learner all compute with these, so that what
// they multiply by is one function of the same bytes. Bytes travel; packings
// never do.
//
// Of two kinds. That of a sampler or a reference owns its bytes, which come
// from a file or over the wire, and packs what a forward needs. That of a
// learner follows its masters: what is published in fp32 is the masters' own
// memory, so that no fp32 number is held twice; what is published in bf16 or
// f8e4m3 is rounded from them, or quantised (DESIGN.md section 6.5 and 6),
// whenever they are published.

#ifndef KERNELS_MODEL_PUBLISHED_WEIGHTS_H_
#define KERNELS_MODEL_PUBLISHED_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "kernels/model/layer_tensors.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/parameters.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/numerics.h"

namespace temper {

// What the matrices are packed for.
enum class Passes : uint8_t { kForward, kForwardAndBackward };

// How one parameter, or what scales it, lies among the bytes that travel: one
// after the other, in the order of the parameters, scales after their codes,
// nothing between them.
struct PublishedParameter {
  std::string name;  // Hugging Face checkpoint name
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;
  int64_t offset = 0;  // bytes
  int64_t bytes = 0;
  bool scales = false;
};

std::vector<PublishedParameter> ListPublished(const ModelConfig& config,
                                              const Numerics& numerics);

// Not thread-safe. Views and weights stay valid as long as the object lives.
class PublishedWeights {
 public:
  // InvalidArgument, naming it, for an index_head_dim that the numerics cannot
  // rotate. Asked by all that make an object.
  static absl::Status CheckRotation(const ModelConfig& config,
                                    const Numerics& numerics);

  // Zero bytes, to be set. `backend` must outlive the object. Unimplemented for
  // numerics that the backend does not compute in.
  static absl::StatusOr<std::unique_ptr<PublishedWeights>> Create(
      Backend* backend, const ModelConfig& config, const Numerics& numerics,
      Passes passes);

  // Publishes what a directory holds (WeightsFile has the errors).
  static absl::StatusOr<std::unique_ptr<PublishedWeights>> Load(
      Backend* backend, const ModelConfig& config, const Numerics& numerics,
      Passes passes, const std::string& model_dir);

  // Those of `masters`, which must outlive the object, as they are now; later
  // changes by FollowMasters.
  static absl::StatusOr<std::unique_ptr<PublishedWeights>> Of(
      const MasterWeights* masters, const Numerics& numerics, Passes passes);

  // Makes bytes and packings follow the masters. Call after any change.
  void FollowMasters();

  // How often the packings were made: who has looked at the values need not
  // look again while it stays.
  uint64_t publications() const { return publications_; }

  // Bytes that travel, all of them.
  static int64_t BytesFor(const ModelConfig& config, const Numerics& numerics);
  // Those of them that are fp32, which a learner's masters are themselves.
  static int64_t Fp32BytesFor(const ModelConfig& config,
                              const Numerics& numerics);
  // What packings take, rounding to panels aside, and what they are made in:
  // the printed plan uses it.
  static int64_t PackingBytesFor(const ModelConfig& config,
                                 const Numerics& numerics, Passes passes);

  // Replaces all bytes, then packs; CHECKs that there are no masters.
  // InvalidArgument if the size differs; nothing changes.
  absl::Status SetBytes(const std::vector<std::byte>& bytes);
  absl::StatusOr<std::vector<std::byte>> GetBytes() const;
  const std::vector<PublishedParameter>& tensors() const { return tensors_; }

  const ModelConfig& config() const { return config_; }
  const Numerics& numerics() const { return numerics_; }
  const std::vector<Parameter>& parameters() const {
    return parameters_.list();
  }
  // A parameter's bytes in its type and shape, or scales by their own name.
  Tensor value(const Parameter& parameter) const;
  Tensor value(const std::string& name) const;  // CHECKs that it exists

  const Tensor& embed_tokens() const { return embed_tokens_; }  // [V, D]
  const Tensor& norm() const { return norm_; }  // [D], model.norm
  const Weight& lm_head() const { return *lm_head_; }
  // [V, D], what lm_head is made of: kept sets are scored from single rows.
  const Tensor& lm_head_rows() const { return lm_head_rows_; }
  const LayerWeights& layer(int64_t index) const { return layers_[index]; }

 private:
  // What lies together, each kind without gaps: the experts of a layer have to
  // lie one after the other, and what is fp32 as it lies in the masters.
  enum Section { kFloats, kHalves, kCodes, kScales, kSections };
  struct Place {
    Section section = kFloats;
    int64_t offset = 0;  // elements
  };

  PublishedWeights(const ModelConfig& config, const Numerics& numerics);
  static DType TypeOf(Section section);
  static absl::StatusOr<std::unique_ptr<PublishedWeights>> Make(
      Backend* backend, const ModelConfig& config, const Numerics& numerics,
      Passes passes, const MasterWeights* masters);
  absl::Status LayOut();
  absl::Status MakeHandles(Passes passes);
  void Pack();
  void PackTensor(const LayerTensor& tensor, int64_t layer);
  // The values of a parameter, f32, quantised to its codes and scales.
  void Quantise(const Tensor& values, const Parameter& parameter);
  const Place& PlaceOf(const std::string& name) const;
  Tensor All(Section section) const;
  // Of a matrix [1, out, in].
  Tensor View(const LayerTensor& tensor, const LayerTensorUse& use,
              int64_t layer) const;
  // Of what LayerTensor it scales: [1 or experts, ..].
  Tensor Scales(const LayerTensor& tensor, int64_t layer) const;

  Backend* backend_ = nullptr;
  const ModelConfig config_;
  const Numerics numerics_;
  const ParameterTable parameters_;
  const std::vector<PublishedParameter> tensors_;
  const MasterWeights* masters_ = nullptr;
  std::map<std::string, size_t> index_;  // of tensors_
  std::vector<Place> places_;            // of tensors_
  int64_t elements_[kSections] = {};
  std::unique_ptr<Buffer> buffers_[kSections];  // of fp32 null with masters
  // A kv_b_proj dequantised, for the packing of its heads; null without codes.
  std::unique_ptr<Buffer> dequantised_;
  Tensor embed_tokens_, norm_, lm_head_rows_;
  std::unique_ptr<Weight> lm_head_;
  uint64_t publications_ = 0;
  std::vector<LayerWeights> layers_;
};

}  // namespace temper

#endif  // KERNELS_MODEL_PUBLISHED_WEIGHTS_H_
