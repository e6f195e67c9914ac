// The rotary table: cosines and sines by position, YaRN included. One table
// for the attention and the indexer. Deterministic on every machine.

#ifndef KERNELS_MODEL_ROPE_H_
#define KERNELS_MODEL_ROPE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "kernels/model/config.h"
#include "kernels/ops/backend.h"

namespace temper {

// f_i, i < R / 2: base^(-2i/R), interpolated under YaRN (Peng et
// al. 2023, section 3.2).
std::vector<double> RopeFrequencies(const ModelConfig& config);

// [positions, R]: cos of position * f_i for every i, then sin. A row does not
// depend on `positions`.
std::vector<float> RopeTable(const ModelConfig& config, int64_t positions);

// The table on a device, of as many positions as there may be:
// max_position_embeddings may be far above any sequence. Not thread-safe.
class RopeCache {
 public:
  // Makes a table of at least `positions` (<= max_position_embeddings) rows;
  // on failure it is as it was.
  absl::Status Make(Backend* backend, const ModelConfig& config,
                    int64_t positions);
  static int64_t BytesFor(const ModelConfig& config, int64_t positions);

  Tensor cos_sin() const { return cos_sin_; }  // [rows, R]

 private:
  std::unique_ptr<Buffer> buffer_;
  Tensor cos_sin_;
};

}  // namespace temper

#endif  // KERNELS_MODEL_ROPE_H_
