// What attention and the indexer (kernels/ops/backend.h) are told: where keys
// lie, and one struct an operation, inputs first. Plain data; views, so nothing
// here owns memory.
//
// Shape letters as in backend.h. What is marked `out` is overwritten, `+=`
// accumulated into, all else read. Keys [rows, ..] may be f8e4m3 and are then
// shaped as kernels/ops/cache_rows.h says.

#ifndef KERNELS_OPS_ATTENTION_ARGUMENTS_H_
#define KERNELS_OPS_ATTENTION_ARGUMENTS_H_

#include <cstdint>

#include "kernels/tensor/tensor.h"

namespace temper {

// Where the keys of each query lie. Key j of sequence s is row
// blocks[s, j / page_tokens] * page_tokens + j % page_tokens of a key strip.
// A sampler's cache has pages of 64; a training batch has pages of one token,
// so that a segment's table can name its parents' rows.
struct KeyMap {
  Tensor sequence;  // i32 [N]: row of `blocks`
  Tensor position;  // i32 [N]: the query sees keys 0 .. position
  Tensor blocks;    // i32 [sequences, blocks_max]
  int32_t page_tokens = 64;
};

struct IndexerSelectArgs {
  Tensor q;     // [N, Hi, Di]
  Tensor w;     // [N, Hi]
  Tensor keys;  // [rows, Di]
  KeyMap map;
  Tensor selected;  // out i32 [N, K]
  Tensor scores;    // out [N, keys_max], or empty: no tap
};

struct SparseMlaArgs {
  Tensor q;     // [N, H, C + R]
  Tensor keys;  // [rows, C + R]
  KeyMap map;
  Tensor selected;  // i32 [N, K]
  float scale = 1;
  Tensor z;    // out [N, H, C]
  Tensor lse;  // out [N, H]
};

struct SparseMlaBackwardArgs {
  Tensor q;  // as the forward had them, z and lse its results
  Tensor keys;
  KeyMap map;
  Tensor selected;
  float scale = 1;
  Tensor z;
  Tensor lse;
  Tensor dz;     // [N, H, C]
  Tensor dq;     // out [N, H, C + R]
  Tensor dkeys;  // += [rows, C + R]
};

struct IndexerKlArgs {
  Tensor q;  // q, keys, scale and lse of SparseMla
  Tensor keys;
  float scale = 1;
  Tensor lse;
  Tensor index_q;     // [N, Hi, Di]
  Tensor index_w;     // [N, Hi]
  Tensor index_keys;  // [rows, Di]
  KeyMap map;
  Tensor selected;   // i32 [N, K]
  Tensor kl;         // out [N]
  int64_t rope = 0;  // R, of f8e4m3 keys
};

struct IndexerKlBackwardArgs {
  Tensor q;  // as the forward had them
  Tensor keys;
  float scale = 1;
  Tensor lse;
  Tensor index_q;
  Tensor index_w;
  Tensor index_keys;
  KeyMap map;
  Tensor selected;
  Tensor dkl;          // [N]
  Tensor dindex_q;     // out [N, Hi, Di]
  Tensor dindex_w;     // out [N, Hi]
  Tensor dindex_keys;  // += [rows, Di]
  int64_t rope = 0;
};

}  // namespace temper

#endif  // KERNELS_OPS_ATTENTION_ARGUMENTS_H_
