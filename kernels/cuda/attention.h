// Launches of attention over selected keys, and what the indexer shares with
// it. All enqueue and return; operands were checked.

#ifndef KERNELS_CUDA_ATTENTION_H_
#define KERNELS_CUDA_ATTENTION_H_

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/ops/rows.h"

namespace temper::cuda {

// Where the keys of each query lie (KeyMap of kernels/ops). A key beyond the
// tables or the `rows` of the strip is taken for the first row and sets the
// fault kRow.
struct Keys {
  const int32_t* sequence = nullptr;
  const int32_t* position = nullptr;
  Rows<const int32_t> blocks;
  int page_shift = 0;
  int64_t rows = 0;  // of the strip
  uint32_t* fault = nullptr;
};

struct MlaForward {
  GroupedRows<const float> q;
  Rows<const float> keys;
  Keys map;
  Rows<const int32_t> selected;
  float scale;
  GroupedRows<float> z;
  Rows<float> lse;
};
void SparseMla(const MlaForward& args, Stream stream);

// What a chunk of queries leaves between the two phases of a backward: a of
// [queries, heads, width], gradients and operands of the keys' products, and
// which of a query's selected keys a row of the strip is.
struct KeyRecords {
  float* p = nullptr;        // [queries, heads, width]; null: no second term
  float* ds = nullptr;       // [queries, heads, width]
  int32_t* rows = nullptr;   // [queries, width]: of the keys
  int32_t* count = nullptr;  // [queries]
  int32_t* place = nullptr;  // [queries, strip rows]: in the list, or -1; null:
                             // nobody asks
  int64_t first = 0;         // query of the first record
  int64_t queries = 0;
  int64_t heads = 0;
  int64_t width = 0;  // selected keys at most
};

// rows, count and place of the records, from the selection.
void FillKeyRecords(const Keys& map, const Rows<const int32_t>& selected,
                    const KeyRecords& records, Stream stream);

// dkeys[row] += over the queries that selected it, in order: sum over heads of
// ds b, then, in its first columns, of p d.
struct KeyGradient {
  KeyRecords records;
  GroupedRows<const float> b;
  GroupedRows<const float> d;  // of the columns of the second term
  Rows<float> dkeys;
};
void AddToKeys(const KeyGradient& args, Stream stream);

// out[h, c] = sum_j of ds[h, j] key j, over the list, of every record.
void SumKeys(const KeyRecords& records, const Rows<const float>& keys,
             const GroupedRows<float>& out, Stream stream);

struct MlaGrads {
  GroupedRows<const float> q;
  Rows<const float> keys;
  float scale;
  GroupedRows<const float> z;
  Rows<const float> lse;
  GroupedRows<const float> dz;
};
// p and ds of the records, whose rows are filled.
void MlaScoreGrads(const MlaGrads& args, const KeyRecords& records,
                   Stream stream);

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_ATTENTION_H_
