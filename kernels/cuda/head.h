// Launches of the head's log-probabilities (kernels/ops/backend.h). All enqueue
// and return; shapes were checked, values are checked here.

#ifndef KERNELS_CUDA_HEAD_H_
#define KERNELS_CUDA_HEAD_H_

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace temper::cuda {

// What a row is normalised over: the kept ids of row n are ids[offsets[n] ..
// offsets[n + 1]); none: the whole vocabulary.
struct KeptSets {
  const int32_t* targets = nullptr;  // [rows]
  const int32_t* offsets = nullptr;  // [rows + 1]; null: whole rows alone
  const int32_t* ids = nullptr;
  int64_t size = 0;  // of ids
  int64_t rows = 0;
  int64_t vocabulary = 0;
};

// *bad becomes the first row's fault, 0 if there is none, and sets the error
// word. `faults` is scratch [rows].
void CheckKeptSets(const KeptSets& sets, uint32_t* faults, uint32_t* bad,
                   uint32_t* fault, Stream stream);

// Rows first .. first + count, whose products with the whole vocabulary lie in
// logits [count, vocabulary]. Nothing is done where *bad is set.
struct HeadChunk {
  KeptSets sets;
  int64_t first = 0;
  int64_t count = 0;
  float* logits = nullptr;
  float temperature = 1;
  const uint32_t* bad = nullptr;
};

// Of all rows, of which first .. first + count are written.
struct LogProbs {
  float* logp;
  float* lse;
  float* entropy;
};
void LogProb(const HeadChunk& rows, const LogProbs& out, Stream stream);

// Logits become dlogp (1[v = target] - p_v) / temperature; kAbsent
// (kernels/cuda/product.h) where the row is not normalised over v.
void LogitGrads(const HeadChunk& rows, const float* lse, const float* dlogp,
                Stream stream);

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_HEAD_H_
