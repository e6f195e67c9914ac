// What kernels over selected keys share: where a key lies, and the products of
// a few heads with a block of 64 keys. For .cu files; functions that
// synchronise are called by all threads of a block.

#ifndef KERNELS_CUDA_KEY_TILE_H_
#define KERNELS_CUDA_KEY_TILE_H_

#include <cstdint>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/device_math.h"

namespace temper::cuda {

// Keys of a block of attention (DESIGN.md section 6, item 3).
constexpr int kKeyBlock = 64;
// A block of threads, and the heads it takes: a warp each.
constexpr int kKeyThreads = 256;
constexpr int kHeadBlock = kKeyThreads / kWarp;

// The row of a key of a query's sequence.
__device__ inline int32_t RowOfKey(const Keys& map, int64_t query,
                                   int64_t key) {
  const int32_t sequence = map.sequence[query];
  const int64_t page = key >> map.page_shift;
  if (sequence >= 0 && sequence < map.blocks.rows &&
      page < map.blocks.columns) {
    const int64_t block = map.blocks.data[sequence * map.blocks.stride + page];
    const int64_t row = (block << map.page_shift) +
                        (key & ((int64_t{1} << map.page_shift) - 1));
    if (row >= 0 && row < map.rows) return static_cast<int32_t>(row);
  }
  SetFault(map.fault, DeviceFault::kRow);
  return 0;
}

// How many of up to 32 flags, a lane's each, are set before the first that is
// not.
__device__ inline int LeadingLanes(bool flag) {
  const unsigned mask = __ballot_sync(kAllLanes, flag);
  return mask == kAllLanes ? kWarp : __ffs(static_cast<int>(~mask)) - 1;
}

// rows[j] = the row of key positions[j] of the query, j < limit <= 64, up to
// the first position below 0; returns how many there are.
__device__ inline int SelectedRows(const Keys& map, int64_t query,
                                   const int32_t* positions, int64_t limit,
                                   int32_t (&rows)[kKeyBlock],
                                   int (&leading)[2]) {
  const int t = static_cast<int>(threadIdx.x);
  if (t < kKeyBlock) {
    const int32_t at = t < limit ? positions[t] : -1;
    const int count = LeadingLanes(at >= 0);
    if (LaneOf() == 0) leading[t / kWarp] = count;
    rows[t] = at >= 0 ? RowOfKey(map, query, at) : 0;
  }
  __syncthreads();
  return leading[0] == kWarp ? kWarp + leading[1] : leading[0];
}

// A piece of the depth of 64 keys and of a block of heads, in shared memory.
struct KeyTile {
  static constexpr int kPiece = 32;
  float keys[kKeyBlock][kPiece + 1];
  float heads[kHeadBlock][kPiece];
};

// The head, of the two it has, and the key of a thread's sums.
__device__ inline int HeadOfThread(int which) {
  return static_cast<int>(threadIdx.x) / kKeyBlock + which * kHeadBlock / 2;
}
__device__ inline int KeyOfThread() {
  return static_cast<int>(threadIdx.x) % kKeyBlock;
}

// sum[i] = head HeadOfThread(i) . key KeyOfThread() over the first `dims`, and
// more[i], if `other` is not null, = other's head . key over the first
// `other_dims` <= dims: chains from +0, ascending. Of heads or keys beyond
// their count it is anything.
struct Heads {
  const float* data = nullptr;
  int64_t stride = 0;  // from head to head
  int64_t dims = 0;
};
__device__ inline void LoadHeads(const Heads& q, int heads, int64_t first,
                                 float (&tile)[kHeadBlock][KeyTile::kPiece]) {
  const int h = static_cast<int>(threadIdx.x) / KeyTile::kPiece;
  const int d = static_cast<int>(threadIdx.x) % KeyTile::kPiece;
  static_assert(kKeyThreads == kHeadBlock * KeyTile::kPiece);
  tile[h][d] =
      h < heads && first + d < q.dims ? q.data[h * q.stride + first + d] : 0.0f;
}

__device__ inline void LoadKeys(const Rows<const float>& keys,
                                const int32_t (&rows)[kKeyBlock], int count,
                                int64_t first, int64_t dims, KeyTile* tile) {
  for (int at = static_cast<int>(threadIdx.x); at < kKeyBlock * KeyTile::kPiece;
       at += kKeyThreads) {
    const int j = at / KeyTile::kPiece, d = at % KeyTile::kPiece;
    tile->keys[j][d] = j < count && first + d < dims
                           ? keys.data[rows[j] * keys.stride + first + d]
                           : 0.0f;
  }
}

__device__ inline void AddPiece(const KeyTile& tile, int depth,
                                float (&sum)[2]) {
  const float* key = tile.keys[KeyOfThread()];
  const float* const head[2] = {tile.heads[HeadOfThread(0)],
                                tile.heads[HeadOfThread(1)]};
  for (int d = 0; d < depth; ++d) {
    sum[0] = Fma(head[0][d], key[d], sum[0]);
    sum[1] = Fma(head[1][d], key[d], sum[1]);
  }
}

__device__ inline int PieceOf(int64_t dims, int64_t first) {
  const int64_t left = dims - first;
  if (left <= 0) return 0;
  return left < KeyTile::kPiece ? static_cast<int>(left) : KeyTile::kPiece;
}

__device__ inline void HeadDots(const Heads& q, int heads,
                                const Rows<const float>& keys,
                                const int32_t (&rows)[kKeyBlock], int count,
                                KeyTile* tile, float (&sum)[2],
                                const Heads& other = {},
                                float (*more)[2] = nullptr) {
  sum[0] = sum[1] = 0;
  if (more != nullptr) (*more)[0] = (*more)[1] = 0;
  for (int64_t first = 0; first < q.dims; first += KeyTile::kPiece) {
    LoadKeys(keys, rows, count, first, q.dims, tile);
    LoadHeads(q, heads, first, tile->heads);
    __syncthreads();
    AddPiece(*tile, PieceOf(q.dims, first), sum);
    __syncthreads();
    const int depth = PieceOf(other.dims, first);
    if (more == nullptr || depth == 0) continue;
    LoadHeads(other, heads, first, tile->heads);
    __syncthreads();
    AddPiece(*tile, depth, *more);
    __syncthreads();
  }
}

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_KEY_TILE_H_
