// One kernel for all products, in tiles of several sizes: a block reads pieces
// of the depth of both operands into shared memory, a thread goes down them for
// its few outputs. Which tile is taken hangs on how many outputs there are;
// what an output is does not.

#include "kernels/cuda/device_math.h"
#include "kernels/cuda/product.h"

namespace temper::cuda {
namespace {

// Of the depth, at a time.
constexpr int kPiece = 16;

// A block's part of a product.
struct Part {
  int64_t row, rows;   // its first row of c, and where the group's rows end
  int64_t begin, end;  // of the depth
  int64_t group;
  bool there;
};

// Every thread of every block walks the few offsets: what does not tile is
// found before anything is read by it.
__device__ inline Part PartOf(const Product& p, int tile_rows) {
  Part part = {static_cast<int64_t>(blockIdx.x) * tile_rows,
               p.rows,
               0,
               p.depth,
               static_cast<int64_t>(blockIdx.z),
               true};
  if (p.cut == Product::Cut::kNone) return part;
  const int64_t whole = p.cut == Product::Cut::kRows ? p.rows : p.depth;
  bool tiles = p.offsets[0] == 0 && p.offsets[p.groups] == whole;
  int64_t skipped = blockIdx.x;  // tiles before this block's
  part.there = p.cut == Product::Cut::kDepth;
  for (int64_t g = 0; g < p.groups; ++g) {
    const int64_t begin = p.offsets[g], end = p.offsets[g + 1];
    tiles = tiles && begin <= end;
    if (p.cut == Product::Cut::kDepth || part.there) continue;
    const int64_t count = (end - begin + tile_rows - 1) / tile_rows;
    if (skipped < count) {
      part = {begin + skipped * tile_rows, end, 0, p.depth, g, true};
    }
    skipped -= count;
  }
  if (p.cut == Product::Cut::kDepth) {
    part.begin = p.offsets[part.group];
    part.end = p.offsets[part.group + 1];
  }
  if (!tiles) {
    part.there = false;
    if (blockIdx.x + blockIdx.y + blockIdx.z + threadIdx.x == 0) {
      SetFault(p.fault, DeviceFault::kOffsets);
    }
  }
  return part;
}

// x[k][i] of shared memory = a piece of an operand, zeros beyond its ends,
// which go into no output. Neighbouring threads read along the dense axis.
template <int kTile, int kThreads>
__device__ inline void Load(const float* from, int64_t count, int64_t stride,
                            int64_t depth, int64_t k_stride,
                            float (&x)[kPiece][kTile + 1]) {
  const bool along_depth = k_stride == 1;
  for (int at = static_cast<int>(threadIdx.x); at < kTile * kPiece;
       at += kThreads) {
    const int i = along_depth ? at / kPiece : at % kTile;
    const int k = along_depth ? at % kPiece : at / kTile;
    x[k][i] = i < count && k < depth ? from[i * stride + k * k_stride] : 0.0f;
  }
}

template <int kTileRows, int kTileColumns, int kRows, int kColumns>
struct Tile {
  static constexpr int kAcross = kTileColumns / kColumns;
  static constexpr int kThreads = kTileRows / kRows * kAcross;
};

template <int kTileRows, int kTileColumns, int kRows, int kColumns,
          bool kSkipsAbsent>
__global__ void __launch_bounds__(
    Tile<kTileRows, kTileColumns, kRows, kColumns>::kThreads, 2)
    product_f32(Product p) {
  using T = Tile<kTileRows, kTileColumns, kRows, kColumns>;
  __shared__ float a[kPiece][kTileRows + 1];
  __shared__ float b[kPiece][kTileColumns + 1];
  if (p.unless != nullptr && *p.unless != 0) return;
  const Part part = PartOf(p, kTileRows);
  if (!part.there) return;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kTileColumns;
  const float* from_a = p.a + part.group * p.a_group + part.row * p.a_row;
  const float* from_b = p.b + part.group * p.b_group + column * p.b_column;
  // A thread's outputs lie apart, so that its neighbours' are neighbours.
  const int y = static_cast<int>(threadIdx.x) / T::kAcross;
  const int x = static_cast<int>(threadIdx.x) % T::kAcross;
  float* const c = p.c + part.group * p.c_group + part.row * p.c_row + column;
  const int64_t rows = part.rows - part.row, columns = p.columns - column;
  float sum[kRows][kColumns];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kColumns; ++j) {
      const int row = y + i * (kTileRows / kRows), at = x + j * T::kAcross;
      sum[i][j] = p.goes_on && row < rows && at < columns
                      ? c[row * p.c_row + at]
                      : 0.0f;
    }
  }
  for (int64_t k = part.begin; k < part.end; k += kPiece) {
    const int64_t left = part.end - k;
    const int depth = left < kPiece ? static_cast<int>(left) : kPiece;
    Load<kTileRows, T::kThreads>(from_a + k * p.a_k, rows, p.a_row, depth,
                                 p.a_k, a);
    Load<kTileColumns, T::kThreads>(from_b + k * p.b_k, columns, p.b_column,
                                    depth, p.b_k, b);
    __syncthreads();
    for (int d = 0; d < depth; ++d) {
      float of_a[kRows], of_b[kColumns];
      for (int i = 0; i < kRows; ++i) {
        of_a[i] = a[d][y + i * (kTileRows / kRows)];
      }
      for (int j = 0; j < kColumns; ++j) of_b[j] = b[d][x + j * T::kAcross];
      for (int i = 0; i < kRows; ++i) {
        if (kSkipsAbsent && __float_as_uint(of_a[i]) == kAbsent) continue;
        for (int j = 0; j < kColumns; ++j) {
          sum[i][j] = Fma(of_a[i], of_b[j], sum[i][j]);
        }
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kColumns; ++j) {
      const int row = y + i * (kTileRows / kRows), at = x + j * T::kAcross;
      if (row < rows && at < columns) c[row * p.c_row + at] = sum[i][j];
    }
  }
}

struct Grid {
  int64_t row_tiles, column_tiles;
  unsigned groups;
  int64_t blocks() const { return row_tiles * column_tiles * groups; }
};

Grid GridOf(const Product& p, int64_t tile_rows, int64_t tile_columns) {
  const bool cuts_rows = p.cut == Product::Cut::kRows;
  return {CeilDiv(p.rows, tile_rows), CeilDiv(p.columns, tile_columns),
          cuts_rows ? 1u : static_cast<unsigned>(p.groups)};
}

template <int kTileRows, int kTileColumns, int kRows, int kColumns>
void LaunchTile(const Product& p, Stream stream) {
  using T = Tile<kTileRows, kTileColumns, kRows, kColumns>;
  const Grid grid = GridOf(p, kTileRows, kTileColumns);
  // Each group's last tile may be a part of one.
  const int64_t row_tiles =
      grid.row_tiles + (p.cut == Product::Cut::kRows ? p.groups : 0);
  const dim3 blocks(static_cast<unsigned>(row_tiles),
                    static_cast<unsigned>(grid.column_tiles), grid.groups);
  if (p.skips_absent) {
    TEMPER_LAUNCH((product_f32<kTileRows, kTileColumns, kRows, kColumns, true>),
                  blocks, T::kThreads, 0, stream, p);
  } else {
    TEMPER_LAUNCH(
        (product_f32<kTileRows, kTileColumns, kRows, kColumns, false>), blocks,
        T::kThreads, 0, stream, p);
  }
}

}  // namespace

// The largest tile of which every multiprocessor gets one, and which the rows
// of a group half fill.
void Multiply(const Product& p, Stream stream) {
  if (p.rows == 0 || p.columns == 0 || p.groups == 0) return;
  const int64_t rows =
      p.cut == Product::Cut::kRows ? CeilDiv(p.rows, p.groups) : p.rows;
  const auto suits = [&](int64_t tile) {
    return tile <= 2 * rows &&
           GridOf(p, tile, tile).blocks() >= kMultiprocessors;
  };
  if (suits(64)) return LaunchTile<64, 64, 4, 4>(p, stream);
  if (suits(32)) return LaunchTile<32, 32, 2, 2>(p, stream);
  if (suits(16)) return LaunchTile<16, 16, 1, 1>(p, stream);
  if (suits(8)) return LaunchTile<8, 8, 1, 1>(p, stream);
  LaunchTile<4, 8, 1, 1>(p, stream);
}

}  // namespace temper::cuda
