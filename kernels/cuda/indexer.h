// Launches of the lightning indexer (kernels/ops/backend.h): scores, the exact
// top-k of them, and the KL loss. All enqueue and return; operands were
// checked.

#ifndef KERNELS_CUDA_INDEXER_H_
#define KERNELS_CUDA_INDEXER_H_

#include <cstdint>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/launch.h"
#include "kernels/ops/rows.h"

namespace temper::cuda {

// Queries first .. first + queries.
struct SelectArgs {
  GroupedRows<const float> q;
  Rows<const float> w;
  Rows<const float> keys;
  Keys map;
  int64_t first = 0;
  int64_t queries = 0;
  Rows<float> scores;  // [queries, keys at most]: scratch, or the tap's rows
  bool tap = false;    // scores of all keys are wanted, -inf beyond them
  Rows<int32_t> selected;
};
void IndexerSelect(const SelectArgs& args, Stream stream);

struct KlArgs {
  GroupedRows<const float> q;
  Rows<const float> keys;
  float scale = 1;
  Rows<const float> lse;
  GroupedRows<const float> index_q;
  Rows<const float> index_w;
  Rows<const float> index_keys;
  // Rows and counts are filled; the backward leaves ds, of the index heads.
  KeyRecords records;
  // Scratch of each record.
  float* target = nullptr;    // [queries, width] p
  float* score = nullptr;     // [queries, width] I
  float* products = nullptr;  // [queries, Hi, width] q . k; null: forward
  double* sums = nullptr;     // [queries] log-sum-exp of the scores
};
// target, score, products and sums; kl[n] too if it is not null.
void IndexerKl(const KlArgs& args, float* kl, Stream stream);

// After IndexerKl with products.
void IndexerKlGrads(const KlArgs& args, const float* dkl,
                    const Rows<float>& dindex_w, Stream stream);

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_INDEXER_H_
