// Bugs with the units that work beside the threads: tensor copies and wgmma.

#include "kernels/cuda/simt/bugs.h"
#include "kernels/cuda/simt/device.h"

namespace temper::simt {
namespace {

constexpr int kSide = 64;        // rows of a, rows of b
constexpr int kDepth = 320;      // five steps,
constexpr int kStageDepth = 64;  // of 128 bytes a row,
constexpr int kStages = 2;       // in two stages
constexpr int kTileBytes = kSide * kStageDepth * 2;

struct alignas(1024) Shared {
  unsigned char a[kStages][kTileBytes];
  unsigned char b[kStages][kTileBytes];
  float result[kSide][kSide];
  uint64_t full[kStages];
  uint64_t empty[kStages];
};

__device__ void Produce(Bug bug, Shared& shared, const TensorMap* a,
                        const TensorMap* b) {
  for (int step = 0; step < kDepth / kStageDepth; ++step) {
    const int stage = step % kStages;
    const uint32_t parity = step / kStages % 2;
    // The first use of a stage has no phase before it to wait for.
    const bool swapped = bug == Bug::kProducerWaitsForTheOtherParity;
    if (bug != Bug::kProducerDoesNotWait) {
      MbarrierWait(&shared.empty[stage], swapped ? parity : parity ^ 1);
    }
    const uint32_t bytes = bug == Bug::kExpectsTooFewBytes    ? kTileBytes
                           : bug == Bug::kExpectsTooManyBytes ? 3 * kTileBytes
                                                              : 2 * kTileBytes;
    MbarrierArriveExpect(&shared.full[stage], bytes);
    const int32_t at[2] = {step * kStageDepth, 0};
    TensorLoad(shared.a[stage], a, &shared.full[stage], at);
    TensorLoad(shared.b[stage], b, &shared.full[stage], at);
  }
}

__device__ void Consume(Bug bug, Shared& shared, float (&sum)[kSide / 2]) {
  for (int step = 0; step < kDepth / kStageDepth; ++step) {
    const int stage = step % kStages;
    const uint32_t parity = step / kStages % 2;
    const bool swapped = bug == Bug::kConsumerWaitsForTheOtherParity;
    if (bug != Bug::kConsumerDoesNotWait) {
      MbarrierWait(&shared.full[stage], swapped ? parity ^ 1 : parity);
    }
    HoldRegisters(sum);
    if (bug != Bug::kNoWgmmaFence) WgmmaFence();
    const int read = bug == Bug::kMultipliesTheWrongStage ? stage ^ 1 : stage;
    for (int k = 0; k < kStageDepth * 2; k += 32) {
      WgmmaBf16<kSide>(
          sum, DescribeMatrix(shared.a[read] + k, 16, 1024, Swizzle::k128Bytes),
          DescribeMatrix(shared.b[read] + k, 16, 1024, Swizzle::k128Bytes),
          true);
    }
    if (bug != Bug::kNoWgmmaCommit) WgmmaCommit();
    if (bug == Bug::kReleasesBeforeItsWgmmaEnds) {
      MbarrierArrive(&shared.empty[stage]);
    }
    if (bug != Bug::kNoWgmmaWait) WgmmaWait<0>();
    HoldRegisters(sum);
    if (bug != Bug::kConsumerDoesNotArrive &&
        bug != Bug::kReleasesBeforeItsWgmmaEnds) {
      MbarrierArrive(&shared.empty[stage]);
    }
  }
}

// Half of the columns, then the other through the same shared memory.
__device__ void Store(Bug bug, Shared& shared, const float (&sum)[kSide / 2],
                      const TensorMap* c) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < kSide / 4; ++i) {
      const int row = warp * 16 + lane / 4 + i % 4 / 2 * 8;
      const int column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      (&shared.result[0][0])[row * (kSide / 2) + column] =
          sum[half * (kSide / 4) + i];
    }
    if (bug != Bug::kResultNotFenced) FenceProxyAsync();
    if (bug != Bug::kNoBarrierBeforeStore) NamedBarrierSync(1, 128);
    if (threadIdx.x == 0) {
      const int32_t at[2] = {half * (kSide / 2), 0};
      TensorStore(c, at, &shared.result[0][0]);
      if (bug != Bug::kStoreNotCommitted) BulkCommit();
      const bool last = half == 1;
      if (last ? bug != Bug::kStoreNotWaitedFor
               : bug != Bug::kResultOverwrittenTooEarly) {
        BulkWait<0>();
      }
    }
    NamedBarrierSync(1, 128);
  }
}

// Four warps multiply; a thread of the fifth has copies made.
__global__ void __launch_bounds__(160)
    TensorProductKernel(Bug bug, const __grid_constant__ TensorMap a,
                        const __grid_constant__ TensorMap b,
                        const __grid_constant__ TensorMap c) {
  TEMPER_DYNAMIC_SHARED(Shared, shared);
  if (threadIdx.x == 128) {
    for (int stage = 0; stage < kStages; ++stage) {
      MbarrierInit(&shared->full[stage], 1);
      MbarrierInit(&shared->empty[stage], 128);
    }
    if (bug != Bug::kInitNotFenced) FenceMbarrierInit();
  }
  if (bug != Bug::kInitNotAnnounced) __syncthreads();
  if (threadIdx.x >= 128) {
    if (threadIdx.x == 128) Produce(bug, *shared, &a, &b);
    return;
  }
  float sum[kSide / 2] = {};
  Consume(bug, *shared, sum);
  Store(bug, *shared, sum, &c);
}

TensorShape MatrixShape(int rows, int columns, ElementType type, int bytes,
                        int box, Swizzle swizzle) {
  TensorShape shape;
  shape.rank = 2;
  shape.sizes[0] = columns;
  shape.sizes[1] = rows;
  shape.stride_bytes[0] = static_cast<uint64_t>(columns) * bytes;
  shape.box[0] = box;
  shape.box[1] = kSide;
  shape.type = type;
  shape.swizzle = swizzle;
  return shape;
}

}  // namespace

bool TensorProductWithBug(Bug bug, const uint16_t* a, const uint16_t* b,
                          float* c) {
  const TensorShape operand = MatrixShape(kSide, kDepth, ElementType::kBf16, 2,
                                          kStageDepth, Swizzle::k128Bytes);
  const TensorShape result = MatrixShape(kSide, kSide, ElementType::kF32, 4,
                                         kSide / 2, Swizzle::kNone);
  TensorMap a_map, b_map, c_map;
  if (!MakeTensorMap(a, operand, &a_map) ||
      !MakeTensorMap(b, operand, &b_map) || !MakeTensorMap(c, result, &c_map)) {
    return false;
  }
  TEMPER_LAUNCH(TensorProductKernel, 1, 160, sizeof(Shared), nullptr, bug,
                a_map, b_map, c_map);
  return true;
}

}  // namespace temper::simt
