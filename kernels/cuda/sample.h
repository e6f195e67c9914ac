// Launches of sampling (kernels/ops/backend.h). All enqueue and return; shapes
// were checked.

#ifndef KERNELS_CUDA_SAMPLE_H_
#define KERNELS_CUDA_SAMPLE_H_

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/ops/rows.h"

namespace temper::cuda {

// `rows` are SampleRows (kernels/ops/sample_arguments.h).
void DrawWords(const Rows<const int32_t>& rows, int32_t* words, Stream stream);

struct SampleTensors {
  Rows<const float> logits;
  Rows<const int32_t> rows;
  const int32_t* words;
  int32_t* ids;
  float* logp;
  Rows<int32_t> kept_ids;
  int32_t* kept_counts;
  uint32_t* fault;
};
// A row whose kept_max is more than kept_ids has columns for keeps as many as
// it has, and sets the fault kKeptSet.
void Sample(const SampleTensors& args, Stream stream);

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_SAMPLE_H_
