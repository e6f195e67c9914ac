// One kernel for products by wgmma, in tiles of several sizes, and a plain one
// for operands that no tensor copy can address. A grid has as many blocks as
// multiprocessors, and a block goes from tile to tile: while it stores one, the
// next is being copied.

#include <algorithm>

#include "kernels/cuda/device_math.h"
#include "kernels/cuda/narrow/pipeline.h"
#include "kernels/cuda/narrow/product.h"

namespace temper::cuda {
namespace {

using simt::Major;

// What a kernel is told beside the maps: the lines of the first operand are its
// `lines`, those of the second its columns, whichever the product's rows are.
struct TiledProduct {
  float* c = nullptr;
  int64_t c_row = 0, c_group = 0;
  int lines = 0, columns = 0;
  int line_tiles = 0, column_tiles = 0;
  int steps = 0;  // of the depth
  int groups = 1;
  bool goes_on = false;
  bool pairs = false;  // two floats of c may be stored as one
  const int32_t* offsets = nullptr;
  uint32_t* fault = nullptr;
  const uint32_t* unless = nullptr;
};

struct TileOf {
  int line, lines;      // its first line, and where the group's end
  int column, columns;  // likewise
  int group;
};

// Tiles of rows in a strip, which all of its columns pass by before the next:
// so what multiprocessors read at one time is few lines of either operand.
constexpr int kStrip = 8;

__device__ inline TileOf UncutTile(const TiledProduct& p, int tile, int lines,
                                   int columns) {
  const int each = p.line_tiles * p.column_tiles;
  const int group = tile / each, at = tile % each;
  const int first = at / (kStrip * p.column_tiles) * kStrip;
  const int left = p.line_tiles - first;
  const int strip = left < kStrip ? left : kStrip;
  const int within = at - first * p.column_tiles;
  return {(first + within % strip) * lines, p.lines, within / strip * columns,
          p.columns, group};
}

// before[g] = tiles of `size` rows in the groups before g, and behind those of
// all groups how many there are to be done: none, and false, if the offsets do
// not tile the rows. By one warp.
__device__ inline bool CountTiles(const int32_t* offsets, int groups, int rows,
                                  int size, int* before) {
  bool tiles = offsets[0] == 0 && offsets[groups] == rows;
  int total = 0;
  for (int first = 0; first < groups; first += kWarp) {
    const int g = first + LaneOf();
    const int here = g < groups ? offsets[g + 1] - offsets[g] : 0;
    if (__any_sync(kAllLanes, here < 0)) tiles = false;
    int sum = (here + size - 1) / size;
    for (int by = 1; by < kWarp; by *= 2) {
      const int other = __shfl_up_sync(kAllLanes, sum, by);
      if (LaneOf() >= by) sum += other;
    }
    if (g < groups) before[g + 1] = total + sum;
    total += __shfl_sync(kAllLanes, sum, kWarp - 1);
  }
  if (LaneOf() == 0) {
    before[0] = 0;
    before[groups + 1] = tiles ? total : 0;
  }
  return tiles;
}

// The group of row tile `tile`.
__device__ inline int GroupOfTile(const int* before, int groups, int tile) {
  int low = 0, high = groups;  // before[low] <= tile < before[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (before[middle] <= tile) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

template <typename Shape, bool kSwapped>
__device__ inline TileOf CutTile(const TiledProduct& p, int tile,
                                 const int* before) {
  const int others = kSwapped ? p.line_tiles : p.column_tiles;
  const int group = GroupOfTile(before, p.groups, tile / others);
  const int within = tile / others - before[group];
  const int row = p.offsets[group], end = p.offsets[group + 1];
  const int other = tile % others;
  if constexpr (kSwapped) {
    return {other * Shape::kLines, p.lines, row + within * Shape::kColumns, end,
            group};
  } else {
    return {row + within * Shape::kLines, end, other * Shape::kColumns,
            p.columns, group};
  }
}

// How many tiles there are, and which is which.
template <typename Shape, bool kSwapped>
struct Tiles {
  const TiledProduct& p;
  const int* before;  // of a cut

  __device__ inline int count() const {
    const int each = p.line_tiles * p.column_tiles;
    if (p.offsets == nullptr) return each * p.groups;
    return before[p.groups + 1] * (kSwapped ? p.line_tiles : p.column_tiles);
  }
  __device__ inline TileOf At(int tile) const {
    return p.offsets == nullptr
               ? UncutTile(p, tile, Shape::kLines, Shape::kColumns)
               : CutTile<Shape, kSwapped>(p, tile, before);
  }
  // A cut operand has all groups in one.
  __device__ inline TileStart StartOf(const TileOf& tile) const {
    const bool cut = p.offsets != nullptr;
    return {tile.line, cut && !kSwapped ? 0 : tile.group, tile.column,
            cut && kSwapped ? 0 : tile.group};
  }
};

template <typename Shape, bool kSwapped>
__device__ inline void StoreTile(const TiledProduct& p, const TileOf& tile,
                                 int warpgroup,
                                 const float (&sum)[Shape::kSums]) {
  float* const c = p.c + (p.offsets == nullptr ? tile.group * p.c_group : 0);
  TEMPER_UNROLL
  for (int i = 0; i < Shape::kSums; i += 2) {
    const SumPlace place = PlaceOfSum(i);
    const int line = tile.line + warpgroup * kWarpgroupLines + place.line;
    const int column = tile.column + place.column;
    if (line >= tile.lines) continue;
    if constexpr (kSwapped) {
      float* const at = c + column * p.c_row + line;
      for (int j = 0; j < 2; ++j) {
        if (column + j >= tile.columns) continue;
        at[j * p.c_row] = p.goes_on ? at[j * p.c_row] + sum[i + j] : sum[i + j];
      }
    } else {
      float* const at = c + line * p.c_row + column;
      if (p.pairs && column + 1 < tile.columns) {
        auto* const pair = reinterpret_cast<float2*>(at);
        const float2 old = p.goes_on ? *pair : make_float2(0, 0);
        // Zero is added to nothing: -0 is to stay.
        *pair = p.goes_on ? make_float2(old.x + sum[i], old.y + sum[i + 1])
                          : make_float2(sum[i], sum[i + 1]);
        continue;
      }
      for (int j = 0; j < 2; ++j) {
        if (column + j >= tile.columns) continue;
        at[j] = p.goes_on ? at[j] + sum[i + j] : sum[i + j];
      }
    }
  }
}

template <typename Shape, bool kSwapped>
__global__ void __launch_bounds__(Shape::kThreads)
    product_bf16(const __grid_constant__ simt::TensorMap a,
                 const __grid_constant__ simt::TensorMap b, TiledProduct p) {
  TEMPER_DYNAMIC_SHARED(Stages<Shape>, stages);
  int* const before = reinterpret_cast<int*>(stages + 1);
  if (p.unless != nullptr && *p.unless != 0) return;
  constexpr int kCopier = Shape::kWarpgroups * kWarpgroup;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == kCopier) MakeStages(stages);
  if (p.offsets != nullptr && thread < kWarp) {
    const int rows = kSwapped ? p.columns : p.lines;
    const int size = kSwapped ? Shape::kColumns : Shape::kLines;
    if (!CountTiles(p.offsets, p.groups, rows, size, before) &&
        thread + blockIdx.x == 0) {
      SetFault(p.fault, DeviceFault::kOffsets);
    }
  }
  __syncthreads();
  const Tiles<Shape, kSwapped> tiles = {p, before};
  const int count = tiles.count();
  const int first = static_cast<int>(blockIdx.x);
  Place<Shape> place;
  if (thread >= kCopier) {
    if (thread > kCopier) return;
    for (int tile = first; tile < count; tile += gridDim.x) {
      CopyTile(&a, &b, tiles.StartOf(tiles.At(tile)), p.steps, &place, stages);
    }
    return;
  }
  const int warpgroup = thread / kWarpgroup;
  for (int tile = first; tile < count; tile += gridDim.x) {
    float sum[Shape::kSums] = {};
    MultiplyTile(warpgroup, p.steps, &place, stages, sum);
    StoreTile<Shape, kSwapped>(p, tiles.At(tile), warpgroup, sum);
  }
}

// --- Without tensor copies ---------------------------------------------------

// Two of an operand's line, at k and after it; zeros beyond the depth and the
// lines.
__device__ inline uint32_t PairAt(const NarrowOperand& x, int64_t group,
                                  int64_t line, int64_t lines, int64_t k,
                                  int64_t depth) {
  if (line >= lines) return 0;
  const uint16_t* const at =
      x.data + group * x.group +
      (x.by_depth ? k * x.stride + line : line * x.stride + k);
  const int64_t next = x.by_depth ? x.stride : 1;
  const uint32_t low = k < depth ? at[0] : 0;
  const uint32_t high = k + 1 < depth ? at[next] : 0;
  return low | high << 16;
}

struct PlainPart {
  int64_t row, rows, group;
  bool there;
};

// As product.cu of floats finds it: every warp walks the offsets.
__device__ inline PlainPart PlainPartOf(const NarrowProduct& p, int size) {
  PlainPart part = {static_cast<int64_t>(blockIdx.x) * size, p.rows,
                    static_cast<int64_t>(blockIdx.z), true};
  if (p.offsets == nullptr) return part;
  bool tiles = p.offsets[0] == 0 && p.offsets[p.groups] == p.rows;
  int64_t skipped = blockIdx.x;
  part.there = false;
  for (int64_t g = 0; g < p.groups; ++g) {
    const int64_t begin = p.offsets[g], end = p.offsets[g + 1];
    tiles = tiles && begin <= end;
    const int64_t count = (end - begin + size - 1) / size;
    if (!part.there && skipped < count) {
      part = {begin + skipped * size, end, g, true};
    }
    skipped -= count;
  }
  if (tiles) return part;
  if (blockIdx.x + blockIdx.y + threadIdx.x == 0) {
    SetFault(p.fault, DeviceFault::kOffsets);
  }
  part.there = false;
  return part;
}

// A warp a tile of 16 rows and 8 columns, whose operands go from memory into
// the registers of mma.sync.
__global__ void plain_product_bf16(NarrowProduct p) {
  if (p.unless != nullptr && *p.unless != 0) return;
  const PlainPart part = PlainPartOf(p, 16);
  if (!part.there) return;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * 8;
  const int64_t a_group = p.offsets == nullptr ? part.group : 0;
  const int of_eight = LaneOf() / 4, of_four = LaneOf() % 4;
  float sum[4] = {};
  for (int64_t k = 0; k < p.depth; k += 16) {
    uint32_t a[4], b[2];
    TEMPER_UNROLL
    for (int i = 0; i < 4; ++i) {
      a[i] = PairAt(p.a, a_group, part.row + of_eight + i % 2 * 8, part.rows,
                    k + of_four * 2 + i / 2 * 8, p.depth);
    }
    TEMPER_UNROLL
    for (int i = 0; i < 2; ++i) {
      b[i] = PairAt(p.b, part.group, column + of_eight, p.columns,
                    k + of_four * 2 + i * 8, p.depth);
    }
    simt::MmaBf16(sum, a, b);
  }
  float* const c = p.c + a_group * p.c_group;
  TEMPER_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int64_t row = part.row + of_eight + i / 2 * 8;
    const int64_t at = column + of_four * 2 + i % 2;
    if (row >= part.rows || at >= p.columns) continue;
    float* const to = c + row * p.c_row + at;
    *to = p.goes_on ? *to + sum[i] : sum[i];
  }
}

bool MultiplyPlainly(const NarrowProduct& p, Stream stream) {
  const bool cut = p.offsets != nullptr;
  const int64_t tiles = CeilDiv(p.rows, 16) + (cut ? p.groups : 0);
  const dim3 grid(static_cast<unsigned>(tiles), BlocksFor(p.columns, 8),
                  cut ? 1u : static_cast<unsigned>(p.groups));
  TEMPER_LAUNCH(plain_product_bf16, grid, 32, 0, stream, p);
  return true;
}

// --- The choice --------------------------------------------------------------

// False if tensor copies cannot address it.
bool MapOf(const NarrowOperand& x, int64_t lines, int64_t depth, int64_t groups,
           int tile_lines, simt::TensorMap* map) {
  simt::TensorShape shape;
  shape.rank = 3;
  shape.type = simt::ElementType::kBf16;
  shape.swizzle = simt::Swizzle::k128Bytes;
  const int64_t inner = x.by_depth ? lines : depth;
  const int64_t outer = x.by_depth ? depth : lines;
  // Of no depth nothing is copied; a map wants a size all the same.
  shape.sizes[0] = static_cast<uint64_t>(std::max<int64_t>(1, inner));
  shape.sizes[1] = static_cast<uint64_t>(std::max<int64_t>(1, outer));
  shape.sizes[2] = static_cast<uint64_t>(groups);
  shape.stride_bytes[0] = static_cast<uint64_t>(x.stride) * 2;
  shape.stride_bytes[1] =
      groups == 1 ? shape.stride_bytes[0] : static_cast<uint64_t>(x.group) * 2;
  shape.box[0] = kStageDepth;
  shape.box[1] = x.by_depth ? kStageDepth : static_cast<uint32_t>(tile_lines);
  shape.box[2] = 1;
  static_assert(kStageDepth == kBoxLines);
  return simt::MakeTensorMap(x.data, shape, map);
}

template <typename Shape, bool kSwapped>
bool LaunchTile(const NarrowProduct& p, int64_t multiprocessors,
                Stream stream) {
  const bool cut = p.offsets != nullptr;
  const NarrowOperand& first = kSwapped ? p.b : p.a;
  const NarrowOperand& second = kSwapped ? p.a : p.b;
  TiledProduct tiled = {
      .c = p.c,
      .c_row = p.c_row,
      .c_group = p.c_group,
      .lines = static_cast<int>(kSwapped ? p.columns : p.rows),
      .columns = static_cast<int>(kSwapped ? p.rows : p.columns),
      .steps = static_cast<int>(CeilDiv(p.depth, kStageDepth)),
      .groups = static_cast<int>(p.groups),
      .goes_on = p.goes_on,
      .pairs = p.c_row % 2 == 0 && p.c_group % 2 == 0 &&
               reinterpret_cast<uintptr_t>(p.c) % 8 == 0,
      .offsets = p.offsets,
      .fault = p.fault,
      .unless = p.unless};
  tiled.line_tiles = static_cast<int>(CeilDiv(tiled.lines, Shape::kLines));
  tiled.column_tiles =
      static_cast<int>(CeilDiv(tiled.columns, Shape::kColumns));
  simt::TensorMap first_map, second_map;
  if (!MapOf(first, tiled.lines, p.depth, cut && !kSwapped ? 1 : p.groups,
             Shape::kLines, &first_map) ||
      !MapOf(second, tiled.columns, p.depth, cut && kSwapped ? 1 : p.groups,
             Shape::kColumns, &second_map)) {
    return false;
  }
  // Of a cut there may be a part of a tile more in each group.
  const int64_t tiles =
      cut ? (kSwapped ? (tiled.column_tiles + p.groups) * tiled.line_tiles
                      : (tiled.line_tiles + p.groups) * tiled.column_tiles)
          : p.groups * tiled.line_tiles * tiled.column_tiles;
  const int64_t blocks = multiprocessors * (Shape::kWarpgroups == 1 ? 2 : 1);
  static_assert(sizeof(Stages<Shape>) <= kSharedBytesMax);
  const size_t shared =
      sizeof(Stages<Shape>) +
      (cut ? (static_cast<size_t>(p.groups) + 2) * sizeof(int) : 0);
  if (shared > kSharedBytesMax) return false;  // of very many groups
  TEMPER_LAUNCH((product_bf16<Shape, kSwapped>),
                static_cast<unsigned>(std::min(tiles, blocks)), Shape::kThreads,
                shared, stream, first_map, second_map, tiled);
  return true;
}

// Stages are as many as fit: of a block a multiprocessor, or two.
template <Major kA, Major kB>
bool LaunchWide(int tile, const NarrowProduct& p, int64_t multiprocessors,
                Stream stream) {
  if (tile == 0) {
    return LaunchTile<PipelineShape<2, 256, kA, kB, 4>, false>(
        p, multiprocessors, stream);
  }
  return LaunchTile<PipelineShape<2, 128, kA, kB, 6>, false>(p, multiprocessors,
                                                             stream);
}

template <Major kB>
bool LaunchFew(int tile, const NarrowProduct& p, int64_t multiprocessors,
               Stream stream) {
  constexpr Major kK = Major::kK;
  switch (kNarrowTiles[tile].columns) {
    case 64:
      return LaunchTile<PipelineShape<1, 64, kB, kK, 6>, true>(
          p, multiprocessors, stream);
    case 32:
      return LaunchTile<PipelineShape<1, 32, kB, kK, 8>, true>(
          p, multiprocessors, stream);
    case 16:
      return LaunchTile<PipelineShape<1, 16, kB, kK, 10>, true>(
          p, multiprocessors, stream);
    default:
      return LaunchTile<PipelineShape<1, 8, kB, kK, 11>, true>(
          p, multiprocessors, stream);
  }
}

// Whether that kernel is there for how the operands lie.
bool Suits(const NarrowTile& tile, const NarrowProduct& p) {
  return tile.swapped ? !p.a.by_depth : !p.a.by_depth || p.b.by_depth;
}

// Cycles of a multiprocessor for 64 of a tile's depth, if all of them work:
// 2048 multiplications in each, or 30 bytes, which is what the second cache
// gives.
int64_t CyclesOf(const NarrowTile& tile) {
  const int64_t bytes = (tile.lines + tile.columns) * kLineBytes;
  return std::max<int64_t>(tile.lines * tile.columns / 32, bytes / 30);
}

}  // namespace

int TileFor(const NarrowProduct& p) {
  const bool cut = p.offsets != nullptr;
  // Groups have more rows or fewer: half as many again as the mean.
  const int64_t rows = cut ? CeilDiv(p.rows * 3, p.groups * 2) : p.rows;
  int best = kPlainTile;
  int64_t least = 0;
  for (int i = 0; i < kPlainTile; ++i) {
    const NarrowTile& tile = kNarrowTiles[i];
    if (!Suits(tile, p)) continue;
    const int64_t tiles =
        p.groups * CeilDiv(rows, tile.swapped ? tile.columns : tile.lines) *
        CeilDiv(p.columns, tile.swapped ? tile.lines : tile.columns);
    const int64_t cycles = CeilDiv(tiles, kMultiprocessors) * CyclesOf(tile);
    if (best != kPlainTile && cycles >= least) continue;
    best = i;
    least = cycles;
  }
  return best;
}

bool MultiplyBy(int tile, int64_t multiprocessors, const NarrowProduct& p,
                Stream stream) {
  if (p.rows == 0 || p.columns == 0 || p.groups == 0) return true;
  if (tile == kPlainTile) return MultiplyPlainly(p, stream);
  if (!Suits(kNarrowTiles[tile], p)) return false;
  constexpr Major kK = Major::kK, kRow = Major::kRow;
  if (kNarrowTiles[tile].swapped) {
    return p.b.by_depth ? LaunchFew<kRow>(tile, p, multiprocessors, stream)
                        : LaunchFew<kK>(tile, p, multiprocessors, stream);
  }
  if (p.a.by_depth) {
    return LaunchWide<kRow, kRow>(tile, p, multiprocessors, stream);
  }
  return p.b.by_depth ? LaunchWide<kK, kRow>(tile, p, multiprocessors, stream)
                      : LaunchWide<kK, kK>(tile, p, multiprocessors, stream);
}

void Multiply(const NarrowProduct& p, Stream stream) {
  if (!MultiplyBy(TileFor(p), kMultiprocessors, p, stream)) {
    MultiplyPlainly(p, stream);
  }
}

}  // namespace temper::cuda
