// Attention over keys of bf16 by wgmma: a block takes a query and 64 heads. One
// warpgroup gathers the rows of 64 keys into shared memory while two multiply
// by those before. Both make all scores and the softmax for
// themselves, from which the exponentials go into wgmma as registers; each has
// one half of z. So nothing passes between them.

#include "kernels/cuda/device_math.h"
#include "kernels/cuda/key_tile.h"
#include "kernels/cuda/narrow/attention.h"
#include "kernels/cuda/narrow/gather.h"
#include "kernels/cuda/narrow/pipeline.h"

namespace temper::cuda {
namespace {

constexpr int kWideHeads = 64;
constexpr int kGroups = 2;  // warpgroups
constexpr int kGatherers = kWarpgroup;
constexpr int kMultipliers = kGroups * kWarpgroup;
// Of a thread: what gathering does not need, multiplying gets.
constexpr int kGathererRegisters = 56;
constexpr int kMultiplierRegisters = 224;
constexpr int kWideColumns = 256;  // of z, a warpgroup's
// Pieces of 64 columns: those of z, and the rotary ones.
constexpr int kPieces = kGroups * kWideColumns / kBoxLines + 1;
constexpr int kBuffers = 2;
constexpr int kScores = kKeyBlock / 2;  // of a thread
constexpr int kSums = kWideColumns / 2;

// Operands lie as pipeline.h has them: lines of 64 columns, swizzled.
struct alignas(1024) WideRoom {
  Lines<kPieces, kWideHeads> q;
  Lines<kPieces, kKeyBlock> keys[kBuffers];
  uint64_t full[kBuffers];
  uint64_t empty[kBuffers];
  int32_t rows[kKeyBlock];
  int leading[2];
  int count[kBuffers];  // keys of the block
};
static_assert(kBoxLines == kKeyBlock && kBoxLines == kWideHeads);
static_assert(sizeof(WideRoom) <= kSharedBytesMax);

// --- Those who gather --------------------------------------------------------

// The rows of 64 places of the list; returns how many are there.
__device__ inline int FindRows(const NarrowMla& x, int64_t n, int64_t first,
                               int thread, WideRoom* room) {
  if (thread < kKeyBlock) {
    const int64_t at = first + thread;
    const int32_t position = at < x.selected.columns
                                 ? x.selected.data[n * x.selected.stride + at]
                                 : -1;
    const int leading = LeadingLanes(position >= 0);
    if (LaneOf() == 0) room->leading[thread / kWarp] = leading;
    room->rows[thread] = position >= 0 ? RowOfKey(x.map, n, position) : 0;
  }
  simt::NamedBarrierSync(1, kGatherers);
  return room->leading[0] == kWarp ? kWarp + room->leading[1]
                                   : room->leading[0];
}

__device__ inline void Gather(const NarrowMla& x, int64_t n, int thread,
                              WideRoom* room) {
  int buffer = 0;
  uint32_t parity = 1;  // nobody has to have emptied what is empty
  for (int64_t first = 0; first < x.selected.columns; first += kKeyBlock) {
    simt::MbarrierWait(&room->empty[buffer], parity);
    const int count = FindRows(x, n, first, thread, room);
    CopyRows(x.keys, room->rows, count, thread, kGatherers,
             &room->keys[buffer]);
    if (thread == 0) room->count[buffer] = count;
    simt::CopyAsyncWaitAll();
    simt::FenceProxyAsync();
    simt::MbarrierArrive(&room->full[buffer]);
    if (count < kKeyBlock) return;
    simt::NamedBarrierSync(1, kGatherers);  // rows are read no more
    buffer ^= 1;
    if (buffer == 0) parity ^= 1;
  }
}

// --- Those who multiply ------------------------------------------------------

// A thread has 16 scores of each of two heads: element i of the head (i / 2) %
// 2, of key PlaceOfSum(i).column.
struct RunningHeads {
  float largest[2];
  float sum[2];
  float kept[2];
};

__device__ inline float OverQuad(float x, int by) {
  return __shfl_xor_sync(kAllLanes, x, by);
}

// The tree over the 64 lanes of a head, of which a quad has the keys 8 j + 2 t
// and the next.
__device__ inline float AddLanes(const float (&e)[kScores], int head) {
  float pair[2];
  TEMPER_UNROLL
  for (int i = 0; i < 2; ++i) {
    float of[8];
    TEMPER_UNROLL
    for (int j = 0; j < 8; ++j) of[j] = 0.0f + e[j * 4 + head * 2 + i];
    TEMPER_UNROLL
    for (int half = 4; half >= 1; half /= 2) {
      TEMPER_UNROLL
      for (int j = 0; j < half; ++j) of[j] = of[j] + of[j + half];
    }
    pair[i] = of[0] + OverQuad(of[0], 2);
    pair[i] = pair[i] + OverQuad(pair[i], 1);
  }
  return pair[0] + pair[1];
}

// Scores become exponentials, zero beyond the count (SoftmaxBlock).
__device__ inline void SoftmaxOfQuad(float scale, int count,
                                     float (&s)[kScores], RunningHeads* run) {
  TEMPER_UNROLL
  for (int head = 0; head < 2; ++head) {
    float block = NegativeInfinity();
    TEMPER_UNROLL
    for (int i = head * 2; i < kScores; i += i % 2 == 0 ? 1 : 3) {
      s[i] = s[i] * scale;
      if (PlaceOfSum(i).column < count) block = Max(s[i], block);
    }
    block = Max(block, OverQuad(block, 2));
    block = Max(block, OverQuad(block, 1));
    const float before = run->largest[head];
    const float largest = block > before ? block : before;
    TEMPER_UNROLL
    for (int i = head * 2; i < kScores; i += i % 2 == 0 ? 1 : 3) {
      s[i] = PlaceOfSum(i).column < count ? Exp(s[i] - largest) : 0.0f;
    }
    const float sum = AddLanes(s, head);
    const float c = Exp(before - largest);
    run->largest[head] = largest;
    run->sum[head] = Fma(run->sum[head], c, sum);
    run->kept[head] = c;
  }
}

__device__ inline void MultiplyByKeys(const WideRoom& room, int buffer,
                                      float (&s)[kScores]) {
  simt::HoldRegisters(s);
  simt::WgmmaFence();
  TEMPER_UNROLL
  for (int piece = 0; piece < kPieces; ++piece) {
    TEMPER_UNROLL
    for (int k = 0; k < kStageDepth; k += 16) {
      simt::WgmmaBf16<kKeyBlock>(
          s, DescribeStep<simt::Major::kK>(room.q.piece[piece], k),
          DescribeStep<simt::Major::kK>(room.keys[buffer].piece[piece], k),
          true);
    }
  }
  simt::WgmmaCommit();
  simt::WgmmaWait<0>();
  simt::HoldRegisters(s);
}

// z = z c + e . k, for a warpgroup's columns. Scores lie in registers as the
// operand has to.
__device__ inline void AddWideValues(const WideRoom& room, int buffer,
                                     int group, const float (&e)[kScores],
                                     const RunningHeads& run,
                                     float (&z)[kSums]) {
  TEMPER_UNROLL
  for (int i = 0; i < kSums; ++i) z[i] = z[i] * run.kept[i % 4 / 2];
  uint32_t a[kKeyBlock / 16][4];
  TEMPER_UNROLL
  for (int i = 0; i < kScores / 2; ++i) {
    a[i / 4][i % 4] =
        Bf16FromFloat(e[i * 2]) | uint32_t{Bf16FromFloat(e[i * 2 + 1])} << 16;
  }
  const unsigned char* const columns =
      room.keys[buffer].piece[group * kWideColumns / kBoxLines];
  simt::HoldRegisters(z);
  simt::WgmmaFence();
  TEMPER_UNROLL
  for (int step = 0; step < kKeyBlock / 16; ++step) {
    simt::WgmmaBf16<kWideColumns, simt::Major::kRow>(
        z, a[step], DescribeStep<simt::Major::kRow>(columns, step * 16), true);
  }
  simt::WgmmaCommit();
  simt::WgmmaWait<0>();
  simt::HoldRegisters(z);
}

// z / l, and lse, of heads that there are.
__device__ inline void StoreHeads(const NarrowMla& x, int64_t n, int64_t head,
                                  int group, bool none, const RunningHeads& run,
                                  const float (&z)[kSums]) {
  TEMPER_UNROLL
  for (int i = 0; i < kSums; ++i) {
    const SumPlace place = PlaceOfSum(i);
    const int64_t h = head + place.line;
    const int64_t c = group * kWideColumns + place.column;
    if (h >= x.z.groups || c >= x.z.columns) continue;
    x.z.data[n * x.z.stride + h * x.z.group_stride + c] =
        none ? 0.0f : z[i] / run.sum[i % 4 / 2];
  }
  if (group != 0 || LaneOf() % 4 != 0) return;
  TEMPER_UNROLL
  for (int i = 0; i < 2; ++i) {
    const int64_t h = head + PlaceOfSum(i * 2).line;
    if (h >= x.z.groups) continue;
    x.lse.data[n * x.lse.stride + h] =
        none ? NegativeInfinity() : LogSumExp(run.largest[i], run.sum[i]);
  }
}

__device__ inline void Attend(const NarrowMla& x, int64_t n, int64_t head,
                              WideRoom* room) {
  const int64_t left = x.q.groups - head;
  RoundHeads(
      x.q.data + n * x.q.stride + head * x.q.group_stride, x.q.group_stride,
      left < kWideHeads ? static_cast<int>(left) : kWideHeads, x.q.columns,
      static_cast<int>(threadIdx.x), kMultipliers, [](int h) { return h; },
      &room->q);
  simt::NamedBarrierSync(2, kMultipliers);
  const int group = static_cast<int>(threadIdx.x) / kWarpgroup;
  RunningHeads run = {{NegativeInfinity(), NegativeInfinity()}, {}, {}};
  float z[kSums] = {};
  bool none = true;
  int buffer = 0;
  uint32_t parity = 0;
  for (int64_t first = 0; first < x.selected.columns; first += kKeyBlock) {
    simt::MbarrierWait(&room->full[buffer], parity);
    const int count = room->count[buffer];
    if (count == 0) break;
    none = false;
    float s[kScores] = {};
    MultiplyByKeys(*room, buffer, s);
    SoftmaxOfQuad(x.scale, count, s, &run);
    AddWideValues(*room, buffer, group, s, run, z);
    if (count < kKeyBlock) break;
    __syncwarp();  // the count is read no more
    if (LaneOf() == 0) simt::MbarrierArrive(&room->empty[buffer]);
    buffer ^= 1;
    if (buffer == 0) parity ^= 1;
  }
  StoreHeads(x, n, head, group, none, run, z);
}

__global__ void __launch_bounds__(kMultipliers + kGatherers)
    wide_mla_bf16(NarrowMla x) {
  TEMPER_DYNAMIC_SHARED(WideRoom, room);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    for (int buffer = 0; buffer < kBuffers; ++buffer) {
      simt::MbarrierInit(&room->full[buffer], kGatherers);
      simt::MbarrierInit(&room->empty[buffer], kMultipliers / kWarp);
    }
    simt::FenceMbarrierInit();
  }
  __syncthreads();
  const int64_t n = blockIdx.x;
  if (thread >= kMultipliers) {
    simt::GiveRegisters<kGathererRegisters>();
    Gather(x, n, thread - kMultipliers, room);
  } else {
    simt::TakeRegisters<kMultiplierRegisters>();
    Attend(x, n, static_cast<int64_t>(blockIdx.y) * kWideHeads, room);
  }
}

}  // namespace

bool WideMla(const NarrowMla& args, Stream stream) {
  if (!BeginAligned(args.keys) || args.z.columns > kGroups * kWideColumns ||
      args.q.columns > kPieces * kBoxLines) {
    return false;
  }
  if (args.q.rows == 0) return true;
  const dim3 grid(static_cast<unsigned>(args.q.rows),
                  BlocksFor(args.q.groups, kWideHeads));
  TEMPER_LAUNCH(wide_mla_bf16, grid, kMultipliers + kGatherers,
                sizeof(WideRoom), stream, args);
  return true;
}

}  // namespace temper::cuda
