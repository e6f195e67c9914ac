#include "kernels/cuda/simt/device.h"
#include "kernels/cuda/simt/matrix_kernels.h"

namespace temper::simt {
namespace {

// Rows lie apart, as those of a larger matrix do.
constexpr int kRow = 24;

template <int kCount, Layout kLayout>
__global__ void LoadKernel(const uint16_t* matrices, uint32_t* registers) {
  TEMPER_DYNAMIC_SHARED(uint16_t, rows);
  const int lane = threadIdx.x;
  if (lane < 8 * kCount) {
    for (int i = 0; i < 8; ++i) rows[lane * kRow + i] = matrices[lane * 8 + i];
  }
  __syncwarp();
  uint32_t r[kCount];
  LoadMatrix<kCount, kLayout>(r, rows + lane % (8 * kCount) * kRow);
  for (int i = 0; i < kCount; ++i) registers[lane * kCount + i] = r[i];
}

template <int kCount, Layout kLayout>
__global__ void StoreKernel(const uint32_t* registers, uint16_t* matrices) {
  TEMPER_DYNAMIC_SHARED(uint16_t, rows);
  const int lane = threadIdx.x;
  uint32_t r[kCount];
  for (int i = 0; i < kCount; ++i) r[i] = registers[lane * kCount + i];
  StoreMatrix<kCount, kLayout>(rows + lane % (8 * kCount) * kRow, r);
  __syncwarp();
  if (lane < 8 * kCount) {
    for (int i = 0; i < 8; ++i) matrices[lane * 8 + i] = rows[lane * kRow + i];
  }
}

__global__ void MultiplyKernel(bool e4m3, const uint32_t* a, const uint32_t* b,
                               float* d) {
  const int lane = threadIdx.x;
  uint32_t a_of_lane[4], b_of_lane[2];
  float sum[4];
  for (int i = 0; i < 4; ++i) a_of_lane[i] = a[lane * 4 + i];
  for (int i = 0; i < 2; ++i) b_of_lane[i] = b[lane * 2 + i];
  for (int i = 0; i < 4; ++i) sum[i] = d[lane * 4 + i];
  if (e4m3) {
    MmaE4m3(sum, a_of_lane, b_of_lane);
  } else {
    MmaBf16(sum, a_of_lane, b_of_lane);
  }
  for (int i = 0; i < 4; ++i) d[lane * 4 + i] = sum[i];
}

__global__ void MisalignedKernel(uint32_t* registers) {
  TEMPER_DYNAMIC_SHARED(uint16_t, rows);
  for (int i = 0; i < 16; ++i) rows[threadIdx.x * 16 + i] = 0;
  __syncwarp();
  uint32_t r[1];
  LoadMatrix(r, rows + threadIdx.x % 8 * 16 + 1);
  registers[threadIdx.x] = r[0];
}

constexpr size_t kSharedBytes = 32 * kRow * sizeof(uint16_t);

template <int kCount>
void Load(bool transposed, const uint16_t* matrices, uint32_t* registers) {
  if (transposed) {
    TEMPER_LAUNCH((LoadKernel<kCount, Layout::kTransposed>), 1, 32,
                  kSharedBytes, nullptr, matrices, registers);
  } else {
    TEMPER_LAUNCH((LoadKernel<kCount, Layout::kAsStored>), 1, 32, kSharedBytes,
                  nullptr, matrices, registers);
  }
}

template <int kCount>
void Store(bool transposed, const uint32_t* registers, uint16_t* matrices) {
  if (transposed) {
    TEMPER_LAUNCH((StoreKernel<kCount, Layout::kTransposed>), 1, 32,
                  kSharedBytes, nullptr, registers, matrices);
  } else {
    TEMPER_LAUNCH((StoreKernel<kCount, Layout::kAsStored>), 1, 32, kSharedBytes,
                  nullptr, registers, matrices);
  }
}

}  // namespace

void LoadFragments(int count, bool transposed, const uint16_t* matrices,
                   uint32_t* registers) {
  if (count == 1) Load<1>(transposed, matrices, registers);
  if (count == 2) Load<2>(transposed, matrices, registers);
  if (count == 4) Load<4>(transposed, matrices, registers);
}

void StoreFragments(int count, bool transposed, const uint32_t* registers,
                    uint16_t* matrices) {
  if (count == 1) Store<1>(transposed, registers, matrices);
  if (count == 2) Store<2>(transposed, registers, matrices);
  if (count == 4) Store<4>(transposed, registers, matrices);
}

void MultiplyFragments(bool e4m3, const uint32_t* a, const uint32_t* b,
                       float* d) {
  TEMPER_LAUNCH(MultiplyKernel, 1, 32, 0, nullptr, e4m3, a, b, d);
}

void LoadMisaligned(uint32_t* registers) {
  TEMPER_LAUNCH(MisalignedKernel, 1, 32, kSharedBytes, nullptr, registers);
}

}  // namespace temper::simt
