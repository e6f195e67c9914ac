// A ring of stages in shared memory that tensor copies fill and wgmma empties:
// a warp's one thread has copies made, ahead by as many stages as there are;
// warpgroups multiply. Of 64 of the depth a stage holds the lines of a tile of
// both operands, swizzled by 128 bytes. For .cu files.

#ifndef KERNELS_CUDA_NARROW_PIPELINE_H_
#define KERNELS_CUDA_NARROW_PIPELINE_H_

#include <cstdint>

#include "kernels/cuda/simt/device.h"

namespace temper::cuda {

// Of the depth, at a time: 128 bytes, as wide as the swizzle.
constexpr int kStageDepth = 64;
constexpr int kLineBytes = 128;
// Lines of the depth together are copied in boxes as wide.
constexpr int kBoxLines = 64;
constexpr int kBoxBytes = kBoxLines * kLineBytes;
constexpr int kWarpgroup = 128;
constexpr int kWarpgroupLines = 64;

template <int kWarpgroups_, int kColumns_, simt::Major kA_, simt::Major kB_,
          int kStages_>
struct PipelineShape {
  static constexpr int kWarpgroups = kWarpgroups_;
  static constexpr int kLines = kWarpgroups_ * kWarpgroupLines;
  static constexpr int kColumns = kColumns_;
  static constexpr simt::Major kA = kA_, kB = kB_;
  static constexpr int kStages = kStages_;
  static constexpr int kThreads = kWarpgroups_ * kWarpgroup + 32;
  static constexpr int kSums = kColumns_ / 2;  // of a thread
  static_assert(kB_ == simt::Major::kK || kColumns_ % kBoxLines == 0);
};

// What a block can have, but for what a product's offsets want.
constexpr size_t kSharedBytesMax = 227 << 10;

template <typename Shape>
struct alignas(1024) Stages {
  unsigned char a[Shape::kStages][Shape::kLines * kLineBytes];
  unsigned char b[Shape::kStages][Shape::kColumns * kLineBytes];
  uint64_t full[Shape::kStages];
  uint64_t empty[Shape::kStages];
};

// Where in the ring a thread is.
template <typename Shape>
struct Place {
  int stage = 0;
  uint32_t parity = 0;

  __device__ inline void Advance() {
    if (++stage < Shape::kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

// By one thread; the block's barrier has to follow.
template <typename Shape>
__device__ inline void MakeStages(Stages<Shape>* stages) {
  for (int stage = 0; stage < Shape::kStages; ++stage) {
    simt::MbarrierInit(&stages->full[stage], 1);
    simt::MbarrierInit(&stages->empty[stage], 4 * Shape::kWarpgroups);
  }
  simt::FenceMbarrierInit();
}

// What an operand's map is of: [groups][lines][depth], or with the depth in the
// middle.
template <int kLines, simt::Major kMajor>
__device__ inline void LoadLines(unsigned char* to, const simt::TensorMap* map,
                                 uint64_t* full, int line, int k, int group) {
  if constexpr (kMajor == simt::Major::kK) {
    const int32_t at[3] = {k, line, group};
    simt::TensorLoad(to, map, full, at);
  } else {
    for (int box = 0; box < kLines / kBoxLines; ++box) {
      const int32_t at[3] = {line + box * kBoxLines, k, group};
      simt::TensorLoad(to + box * kBoxBytes, map, full, at);
    }
  }
}

// Which lines a tile begins with, in which group of the maps.
struct TileStart {
  int a, a_group;
  int b, b_group;
};

// By the copying thread: the depth of one tile.
template <typename Shape>
__device__ inline void CopyTile(const simt::TensorMap* a,
                                const simt::TensorMap* b,
                                const TileStart& start, int steps,
                                Place<Shape>* place, Stages<Shape>* stages) {
  constexpr uint32_t kBytes = (Shape::kLines + Shape::kColumns) * kLineBytes;
  for (int step = 0; step < steps; ++step, place->Advance()) {
    const int stage = place->stage;
    // The first use of a stage has no phase before it to wait for.
    simt::MbarrierWait(&stages->empty[stage], place->parity ^ 1);
    simt::MbarrierArriveExpect(&stages->full[stage], kBytes);
    LoadLines<Shape::kLines, Shape::kA>(stages->a[stage], a,
                                        &stages->full[stage], start.a,
                                        step * kStageDepth, start.a_group);
    LoadLines<Shape::kColumns, Shape::kB>(stages->b[stage], b,
                                          &stages->full[stage], start.b,
                                          step * kStageDepth, start.b_group);
  }
}

// 16 of the depth from k on, of an operand's lines in a stage.
template <simt::Major kMajor>
__device__ inline uint64_t DescribeStep(const unsigned char* lines, int k) {
  if constexpr (kMajor == simt::Major::kK) {
    return simt::DescribeMatrix(lines + k * 2, 16, 8 * kLineBytes,
                                simt::Swizzle::k128Bytes);
  } else {
    return simt::DescribeMatrix(lines + k * kLineBytes, kBoxBytes,
                                8 * kLineBytes, simt::Swizzle::k128Bytes);
  }
}

// By a warpgroup: sum += the products of its lines of a tile. One stage is read
// while the one before is given back.
template <typename Shape>
__device__ inline void MultiplyTile(int warpgroup, int steps,
                                    Place<Shape>* place, Stages<Shape>* stages,
                                    float (&sum)[Shape::kSums]) {
  const bool speaks = threadIdx.x % 32 == 0;  // for its warp
  int before = 0;
  for (int step = 0; step < steps; ++step, place->Advance()) {
    const int stage = place->stage;
    simt::MbarrierWait(&stages->full[stage], place->parity);
    const unsigned char* const a =
        stages->a[stage] + warpgroup * kWarpgroupLines * kLineBytes;
    simt::HoldRegisters(sum);
    simt::WgmmaFence();
    TEMPER_UNROLL
    for (int k = 0; k < kStageDepth; k += 16) {
      simt::WgmmaBf16<Shape::kColumns, Shape::kA, Shape::kB>(
          sum, DescribeStep<Shape::kA>(a, k),
          DescribeStep<Shape::kB>(stages->b[stage], k), true);
    }
    simt::WgmmaCommit();
    simt::WgmmaWait<1>();
    if (step > 0 && speaks) simt::MbarrierArrive(&stages->empty[before]);
    before = stage;
  }
  simt::WgmmaWait<0>();
  simt::HoldRegisters(sum);
  if (steps > 0 && speaks) simt::MbarrierArrive(&stages->empty[before]);
}

// Where sum[i] of a thread of a warpgroup belongs, of its 64 lines.
struct SumPlace {
  int line, column;
};
__device__ inline SumPlace PlaceOfSum(int i) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  return {warp * 16 + lane / 4 + i % 4 / 2 * 8,
          i / 4 * 8 + lane % 4 * 2 + i % 2};
}

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_NARROW_PIPELINE_H_
