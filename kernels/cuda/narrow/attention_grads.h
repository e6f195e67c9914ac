// Launches of what attention's backward and the indexer's loss have to do with
// keys of bf16; the rest is as of floats (kernels/cuda/attention.h, indexer.h).
// Scores and sums over a list are chains of a tensor core's sums; gradients of
// keys are sums over the heads in blocks of 32, as the CPU adds them. All
// enqueue and return; operands were checked.

#ifndef KERNELS_CUDA_NARROW_ATTENTION_GRADS_H_
#define KERNELS_CUDA_NARROW_ATTENTION_GRADS_H_

#include <cstdint>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/indexer.h"
#include "kernels/cuda/launch.h"
#include "kernels/ops/rows.h"

namespace temper::cuda {

// MlaGrads; its keys are these.
void MlaScoreGrads(const MlaGrads& args, const Rows<const uint16_t>& keys,
                   const KeyRecords& records, Stream stream);

// out[h, c] = sum_j of ds[h, j] key j, over the list, of every record; ds is
// rounded.
void SumKeys(const KeyRecords& records, const Rows<const uint16_t>& keys,
             const GroupedRows<float>& out, Stream stream);

// AddToKeys, of which all factors are rounded.
void AddRoundedToKeys(const KeyGradient& args, Stream stream);

// target, score and products of KlArgs, whose keys are these.
void KlScores(const KlArgs& args, const Rows<const uint16_t>& keys,
              const Rows<const uint16_t>& index_keys, Stream stream);

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_NARROW_ATTENTION_GRADS_H_
