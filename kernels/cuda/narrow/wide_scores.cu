// The indexer's scores over keys of bf16 by wgmma: a block takes a query and
// some thousand of its keys. One warpgroup gathers 128 of them into shared
// memory while two multiply those before by the query's heads, 64 each. A key's
// score is one chain over ascending heads, of which a thread holds 16: it goes
// from thread to thread of four.

#include "kernels/cuda/device_math.h"
#include "kernels/cuda/key_tile.h"
#include "kernels/cuda/narrow/attention.h"
#include "kernels/cuda/narrow/gather.h"
#include "kernels/cuda/narrow/pipeline.h"

namespace temper::cuda {
namespace {

constexpr int kIndexHeads = 64;
constexpr int kIndexPieces = 2;  // of 64 columns
constexpr int kGroups = 2;       // warpgroups
constexpr int kGatherers = kWarpgroup;
constexpr int kMultipliers = kGroups * kWarpgroup;
constexpr int kKeysAtOnce = kGroups * kWarpgroupLines;
constexpr int kKeysOfBlock = 16 * kKeysAtOnce;
constexpr int kBuffers = 2;
constexpr int kDots = kIndexHeads / 2;  // of a thread
constexpr int kHeadsOfLane = kIndexHeads / 4;

struct alignas(1024) ScoreRoom {
  Lines<kIndexPieces, kIndexHeads> q;
  Lines<kIndexPieces, kKeysAtOnce> keys[kBuffers];
  uint64_t full[kBuffers];
  uint64_t empty[kBuffers];
  int32_t rows[kKeysAtOnce];
};
static_assert(2 * sizeof(ScoreRoom) <= kSharedBytesMax);
static_assert(kKeysAtOnce == kGatherers);

// The keys [first, end) of a block.
struct KeyRange {
  int64_t first, end;
};

__device__ inline void GatherKeys(const NarrowScores& x, int64_t n,
                                  const KeyRange& range, int thread,
                                  ScoreRoom* room) {
  int buffer = 0;
  uint32_t parity = 1;  // nobody has to have emptied what is empty
  for (int64_t first = range.first; first < range.end; first += kKeysAtOnce) {
    const int64_t left = range.end - first;
    const int count = left < kKeysAtOnce ? static_cast<int>(left) : kKeysAtOnce;
    simt::MbarrierWait(&room->empty[buffer], parity);
    room->rows[thread] =
        thread < count ? RowOfKey(x.map, n, first + thread) : 0;
    simt::NamedBarrierSync(1, kGatherers);
    CopyRows(x.keys, room->rows, count, thread, kGatherers,
             &room->keys[buffer]);
    simt::CopyAsyncWaitAll();
    simt::FenceProxyAsync();
    simt::MbarrierArrive(&room->full[buffer]);
    simt::NamedBarrierSync(1, kGatherers);  // rows are read no more
    buffer ^= 1;
    if (buffer == 0) parity ^= 1;
  }
}

// The head in line `line` of the second operand, so that lane t of four gets
// the heads 16 t and up: those of the columns 8 j + 2 t and the next.
__device__ inline int HeadOfLine(int line) {
  return line % 8 / 2 * kHeadsOfLane + line / 8 * 2 + line % 2;
}

// The chain over the heads of a thread's first key, or its second.
__device__ inline float AddHeads(const float (&dots)[kDots],
                                 const float (&w)[kHeadsOfLane], int key) {
  float score = 0;
  TEMPER_UNROLL
  for (int lane = 0; lane < 4; ++lane) {
    // Each goes on from the same; that of the lane whose turn it is counts.
    TEMPER_UNROLL
    for (int i = 0; i < kHeadsOfLane; ++i) {
      score = Fma(w[i], Max(dots[i / 2 * 4 + key * 2 + i % 2], 0.0f), score);
    }
    score = __shfl_sync(kAllLanes, score, lane, 4);
  }
  return score;
}

__device__ inline void Score(const NarrowScores& x, int64_t n,
                             const KeyRange& range, ScoreRoom* room) {
  const int thread = static_cast<int>(threadIdx.x);
  const int heads = static_cast<int>(x.q.groups);
  RoundHeads(
      x.q.data + n * x.q.stride, x.q.group_stride, heads, x.q.columns, thread,
      kMultipliers, [](int line) { return HeadOfLine(line); }, &room->q);
  simt::NamedBarrierSync(2, kMultipliers);
  float w[kHeadsOfLane];
  TEMPER_UNROLL
  for (int i = 0; i < kHeadsOfLane; ++i) {
    const int head = LaneOf() % 4 * kHeadsOfLane + i;
    w[i] = head < heads ? x.w.data[n * x.w.stride + head] : 0.0f;
  }
  const int group = thread / kWarpgroup;
  float* const scores =
      x.scores.data + static_cast<int64_t>(blockIdx.x) * x.scores.stride;
  int buffer = 0;
  uint32_t parity = 0;
  for (int64_t first = range.first; first < range.end; first += kKeysAtOnce) {
    simt::MbarrierWait(&room->full[buffer], parity);
    float dots[kDots] = {};
    simt::HoldRegisters(dots);
    simt::WgmmaFence();
    TEMPER_UNROLL
    for (int step = 0; step < kIndexPieces * 4; ++step) {
      const int piece = step / 4, k = step % 4 * 16;
      simt::WgmmaBf16<kIndexHeads>(
          dots,
          DescribeStep<simt::Major::kK>(
              room->keys[buffer].piece[piece] +
                  group * kWarpgroupLines * kLineBytes,
              k),
          DescribeStep<simt::Major::kK>(room->q.piece[piece], k), true);
    }
    simt::WgmmaCommit();
    simt::WgmmaWait<0>();
    simt::HoldRegisters(dots);
    if (LaneOf() == 0) simt::MbarrierArrive(&room->empty[buffer]);
    TEMPER_UNROLL
    for (int key = 0; key < 2; ++key) {
      const float score = AddHeads(dots, w, key);
      const int64_t at =
          first + group * kWarpgroupLines + PlaceOfSum(key * 2).line;
      if (LaneOf() % 4 == 0 && at < range.end) scores[at] = score;
    }
    buffer ^= 1;
    if (buffer == 0) parity ^= 1;
  }
}

__global__ void __launch_bounds__(kMultipliers + kGatherers, 2)
    wide_scores_bf16(NarrowScores x) {
  TEMPER_DYNAMIC_SHARED(ScoreRoom, room);
  const int64_t n = x.first + blockIdx.x;
  const int64_t all = static_cast<int64_t>(x.map.position[n]) + 1;
  const int64_t seen = all < x.scores.columns ? all : x.scores.columns;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kKeysOfBlock;
  if (first >= seen || (!x.tap && all <= x.top_k)) return;
  const KeyRange range = {
      first, seen - first < kKeysOfBlock ? seen : first + kKeysOfBlock};
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    for (int buffer = 0; buffer < kBuffers; ++buffer) {
      simt::MbarrierInit(&room->full[buffer], kGatherers);
      simt::MbarrierInit(&room->empty[buffer], kMultipliers / kWarp);
    }
    simt::FenceMbarrierInit();
  }
  __syncthreads();
  if (thread >= kMultipliers) {
    GatherKeys(x, n, range, thread - kMultipliers, room);
  } else {
    Score(x, n, range, room);
  }
}

}  // namespace

bool WideScores(const NarrowScores& args, Stream stream) {
  if (!BeginAligned(args.keys) || args.q.groups > kIndexHeads ||
      args.q.columns > kIndexPieces * kBoxLines) {
    return false;
  }
  if (args.queries == 0 || args.scores.columns == 0) return true;
  const dim3 grid(static_cast<unsigned>(args.queries),
                  BlocksFor(args.scores.columns, kKeysOfBlock));
  TEMPER_LAUNCH(wide_scores_bf16, grid, kMultipliers + kGatherers,
                sizeof(ScoreRoom), stream, args);
  return true;
}

}  // namespace temper::cuda
