// The fp32 values that training changes: AdamW's masters, the learner's alone.
// What models are run with is published from them (published_weights.h);
// neither they nor anything that a backend packs ever travels.

#ifndef KERNELS_MODEL_MASTER_WEIGHTS_H_
#define KERNELS_MODEL_MASTER_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "kernels/model/parameters.h"
#include "kernels/model/weights_file.h"
#include "kernels/ops/backend.h"

namespace temper {

// Not thread-safe. One buffer, in the order of the parameters; views stay valid
// as long as the object lives.
class MasterWeights {
 public:
  // Zero values. `backend` must outlive the object.
  static absl::StatusOr<std::unique_ptr<MasterWeights>> Create(
      Backend* backend, const ModelConfig& config);

  // Errors are WeightsFile's; the object is then not returned.
  static absl::StatusOr<std::unique_ptr<MasterWeights>> Load(
      Backend* backend, const ModelConfig& config,
      const std::string& model_dir);

  static int64_t BytesFor(const ModelConfig& config);

  // WriteWeights of all of them and of what was carried.
  absl::Status Save(const std::string& model_dir,
                    const std::string& dtype) const;

  // Replaces all values by `values` [parameters() in order]. InvalidArgument if
  // the count differs; nothing changes.
  absl::Status SetValues(const std::vector<float>& values);
  std::vector<float> GetValues() const;

  const ModelConfig& config() const { return config_; }
  const std::vector<Parameter>& parameters() const {
    return parameters_.list();
  }
  Tensor value(const Parameter& parameter) const;  // f32 view, its shape
  Tensor value(const std::string& name) const;     // CHECKs that it exists
  Tensor all() const;                              // f32 [total elements]
  const std::vector<CarriedTensor>& carried() const { return carried_; }
  Backend* backend() const { return backend_; }

 private:
  explicit MasterWeights(const ModelConfig& config)
      : config_(config), parameters_(config) {}

  Backend* backend_ = nullptr;
  const ModelConfig config_;
  const ParameterTable parameters_;
  std::unique_ptr<Buffer> buffer_;
  std::vector<CarriedTensor> carried_;
};

}  // namespace temper

#endif  // KERNELS_MODEL_MASTER_WEIGHTS_H_
