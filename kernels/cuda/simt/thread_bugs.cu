// Bugs among threads and their copies; unit_bugs.cu has those of the units.

#include "kernels/cuda/simt/bugs.h"
#include "kernels/cuda/simt/device.h"

namespace temper::simt {
namespace {

constexpr unsigned kAll = 0xffffffffu;

// Twice over the same shared memory, so that reuse has to be ordered.
__global__ void __launch_bounds__(256)
    SumKernel(Bug bug, const int* values, int* out) {
  __shared__ int of_warp[8];
  __shared__ int pair[8][2];
  __shared__ int total;
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int sum = values[blockIdx.x * 256 + threadIdx.x];
  for (int by = 16; by > 1; by /= 2) sum += __shfl_xor_sync(kAll, sum, by);
  if (lane < 2) pair[warp][lane] = sum;
  if (bug != Bug::kNoSyncwarp) __syncwarp();
  sum = pair[warp][0] + pair[warp][1];
  if (threadIdx.x == 0 && bug != Bug::kNoInitialisation) total = 1;
  if (lane == 0) of_warp[warp] = sum;
  if (bug == Bug::kBarrierInABranch) {
    if (lane == 0) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  } else if (bug != Bug::kNoBarrierBeforeRead) {
    __syncthreads();
  }
  if (threadIdx.x < 8) {
    sum = of_warp[threadIdx.x];
    const unsigned mask = bug == Bug::kMaskWithoutTheLane   ? 0x7fu
                          : bug == Bug::kMaskOfMoreThanCome ? 0x1ffu
                                                            : 0xffu;
    for (int by = 4; by > 0; by /= 2) sum += __shfl_down_sync(mask, sum, by, 8);
    if (threadIdx.x == 0) atomicAdd(&total, sum);
    if (bug == Bug::kOneBarrierTooMany) NamedBarrierSync(1, 64);
  }
  __syncthreads();
  // The words of the warps serve again, to tell everybody.
  if (threadIdx.x == 255) of_warp[0] = total;
  if (bug != Bug::kNoBarrierBeforeReuse) __syncthreads();
  if (threadIdx.x == 1) out[blockIdx.x] = of_warp[0];
}

constexpr int kSide = 32;  // rows of a, rows of b
constexpr int kDepth = 96;
constexpr int kStageDepth = 32;
constexpr int kRow = kStageDepth + 8;  // elements, so that rows share no bank

struct Stage {
  uint16_t a[kSide][kRow];
  uint16_t b[kSide][kRow];
};

// Two pieces of 16 bytes a thread.
__device__ void Fill(Stage& stage, const uint16_t* a, const uint16_t* b,
                     int k) {
  for (int piece = threadIdx.x; piece < kSide * 4; piece += blockDim.x) {
    const int row = piece / 4, column = piece % 4 * 8;
    CopyAsync<16>(&stage.a[row][column], a + row * kDepth + k + column);
    CopyAsync<16>(&stage.b[row][column], b + row * kDepth + k + column);
  }
}

// A warp's 16 rows and 16 columns.
__device__ void MultiplyStage(const Stage& stage, float (&sum)[2][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row = warp / 2 * 16, column = warp % 2 * 16;
  for (int k = 0; k < kStageDepth; k += 16) {
    uint32_t a[4], b[4];
    LoadMatrix(a, &stage.a[row + lane % 16][k + lane / 16 * 8]);
    LoadMatrix(
        b, &stage.b[column + lane / 16 * 8 + lane % 8][k + lane / 8 % 2 * 8]);
    const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
    MmaBf16(sum[0], a, low);
    MmaBf16(sum[1], a, high);
  }
}

__device__ void Barrier(Bug bug) {
  const unsigned warp = threadIdx.x / 32;
  if (bug == Bug::kNamedBarrierOfTooMany) {
    NamedBarrierSync(3, 160);
  } else if (bug == Bug::kNamedBarrierOfAnother && warp == 3) {
    NamedBarrierSync(4, 128);
  } else {
    NamedBarrierSync(3, 128);
  }
}

__global__ void __launch_bounds__(128)
    CopiedProductKernel(Bug bug, const uint16_t* a, const uint16_t* b,
                        float* c) {
  TEMPER_DYNAMIC_SHARED(Stage, stages);
  constexpr int kSteps = kDepth / kStageDepth;
  float sum[2][4] = {};
  Fill(stages[0], a, b, 0);
  if (bug != Bug::kCopiesWithoutCommit) CopyAsyncCommit();
  for (int step = 0; step < kSteps; ++step) {
    if (step + 1 < kSteps) {
      Fill(stages[(step + 1) % 2], a, b, (step + 1) * kStageDepth);
      if (bug != Bug::kCopiesWithoutCommit) CopyAsyncCommit();
      CopyAsyncWait<1>();
    } else if (bug == Bug::kWaitsForTooFewGroups) {
      CopyAsyncWait<1>();
    } else {
      CopyAsyncWait<0>();
    }
    if (bug != Bug::kNoBarrierAfterWait) Barrier(bug);
    const int other = bug == Bug::kReadsTheOtherStage ? 1 : 0;
    MultiplyStage(stages[(step + other) % 2], sum);
    if (bug != Bug::kNoBarrierBeforeRefill) Barrier(bug);
  }
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int i = 0; i < 8; ++i) {
    const int row = warp / 2 * 16 + lane / 4 + i % 4 / 2 * 8;
    const int column = warp % 2 * 16 + i / 4 * 8 + lane % 4 * 2 + i % 2;
    c[row * kSide + column] = sum[i / 4][i % 4];
  }
}

}  // namespace

void SumWithBug(Bug bug, const int* values, int* out) {
  TEMPER_LAUNCH(SumKernel, 2, 256, 0, nullptr, bug, values, out);
}

void CopiedProductWithBug(Bug bug, const uint16_t* a, const uint16_t* b,
                          float* c) {
  TEMPER_LAUNCH(CopiedProductKernel, 1, 128, 2 * sizeof(Stage), nullptr, bug, a,
                b, c);
}

}  // namespace temper::simt
