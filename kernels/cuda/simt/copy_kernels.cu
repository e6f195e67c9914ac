#include "kernels/cuda/simt/copy_kernels.h"
#include "kernels/cuda/simt/device.h"

namespace temper::simt {
namespace {

__global__ void PiecesKernel(const uint32_t* in, int pieces, uint32_t* out) {
  TEMPER_DYNAMIC_SHARED(uint32_t, words);
  const int piece = threadIdx.x;
  uint32_t* const to = words + piece * 4;
  const uint32_t* const from = in + piece * 4;
  if (piece % 4 == 0) {
    for (int i = 0; i < 4; ++i) CopyAsync<4>(to + i, from + i);
  } else if (piece % 4 == 1) {
    CopyAsync<8>(to, from);
    CopyAsync<8>(to + 2, from + 2);
  } else if (piece % 4 == 2) {
    CopyAsync<16>(to, from);
  } else {
    CopyAsyncPadded<16>(to, from, 4);
  }
  if (piece % 2 == 0) {
    CopyAsyncCommit();
    CopyAsyncWait<0>();
  } else {
    CopyAsyncWaitAll();
  }
  __syncthreads();
  for (int i = piece; i < pieces * 4; i += blockDim.x) out[i] = words[i];
}

// Three dimensions at most, of which `rank` count.
struct Corner {
  int32_t at[3];
};

__device__ void Load(void* shared, const TensorMap* map, uint64_t* mbarrier,
                     int rank, const Corner& corner) {
  if (rank == 1) {
    const int32_t at[1] = {corner.at[0]};
    TensorLoad(shared, map, mbarrier, at);
  } else if (rank == 2) {
    const int32_t at[2] = {corner.at[0], corner.at[1]};
    TensorLoad(shared, map, mbarrier, at);
  } else {
    TensorLoad(shared, map, mbarrier, corner.at);
  }
}

__device__ void Store(const TensorMap* map, int rank, const Corner& corner,
                      const void* shared) {
  if (rank == 1) {
    const int32_t at[1] = {corner.at[0]};
    TensorStore(map, at, shared);
  } else if (rank == 2) {
    const int32_t at[2] = {corner.at[0], corner.at[1]};
    TensorStore(map, at, shared);
  } else {
    TensorStore(map, corner.at, shared);
  }
}

__global__ void LoadBoxKernel(const __grid_constant__ TensorMap map, int rank,
                              const __grid_constant__ Corner corner,
                              uint32_t bytes, uint32_t skip,
                              unsigned char* out) {
  TEMPER_DYNAMIC_SHARED(unsigned char, box);
  auto* const mbarrier = reinterpret_cast<uint64_t*>(box + bytes);
  if (threadIdx.x == 0) {
    MbarrierInit(mbarrier, 1);
    FenceMbarrierInit();
    MbarrierArriveExpect(mbarrier, bytes);
    Load(box + skip, &map, mbarrier, rank, corner);
  }
  __syncthreads();
  MbarrierWait(mbarrier, 0);
  for (uint32_t i = threadIdx.x; i < bytes; i += blockDim.x) out[i] = box[i];
}

__global__ void StoreBoxKernel(const __grid_constant__ TensorMap map, int rank,
                               const __grid_constant__ Corner corner,
                               uint32_t bytes, const unsigned char* in) {
  TEMPER_DYNAMIC_SHARED(unsigned char, box);
  for (uint32_t i = threadIdx.x; i < bytes; i += blockDim.x) box[i] = in[i];
  FenceProxyAsync();
  __syncthreads();
  if (threadIdx.x == 0) {
    Store(&map, rank, corner, box);
    BulkCommit();
    BulkWait<0>();
  }
}

__global__ void LoadBytesKernel(const unsigned char* in, uint32_t bytes,
                                unsigned char* out) {
  TEMPER_DYNAMIC_SHARED(unsigned char, to);
  auto* const mbarrier = reinterpret_cast<uint64_t*>(to + bytes);
  if (threadIdx.x == 0) {
    MbarrierInit(mbarrier, 1);
    FenceProxyAsync();
    MbarrierExpect(mbarrier, bytes);
    BulkLoad(to, in, bytes, mbarrier);
    MbarrierArrive(mbarrier);
  }
  __syncthreads();
  MbarrierWait(mbarrier, 0);
  for (uint32_t i = threadIdx.x; i < bytes; i += blockDim.x) out[i] = to[i];
}

__global__ void PhasesKernel(int phases, bool poll, int* out) {
  __shared__ uint64_t mbarrier;
  __shared__ int count;
  if (threadIdx.x == 0) {
    MbarrierInit(&mbarrier, blockDim.x);
    count = 0;
  }
  __syncthreads();
  for (int phase = 0; phase < 2 * phases; ++phase) {
    // In even phases one thread counts, in odd ones all look.
    const int turn = phase / 2 % static_cast<int>(blockDim.x);
    if (phase % 2 == 0) {
      if (static_cast<int>(threadIdx.x) == turn) ++count;
    } else {
      out[threadIdx.x] = count;
    }
    MbarrierArrive(&mbarrier);
    if (poll) {
      while (!MbarrierTest(&mbarrier, phase % 2)) {
      }
    } else {
      MbarrierWait(&mbarrier, phase % 2);
    }
  }
}

__global__ void MisuseKernel(Misuse misuse, uint32_t* out) {
  TEMPER_DYNAMIC_SHARED(uint64_t, mbarrier);
  if (misuse != Misuse::kNeverMade) {
    MbarrierInit(mbarrier, misuse == Misuse::kForNobody ? 0 : 2);
  }
  switch (misuse) {
    case Misuse::kNeverMade:
      MbarrierArrive(mbarrier);
      break;
    case Misuse::kTooManyArrivals:
      // The second would end the phase, had it its bytes.
      MbarrierArriveExpect(mbarrier, 16);
      for (int i = 0; i < 2; ++i) MbarrierArrive(mbarrier);
      break;
    case Misuse::kPlainRead:
      *out = *reinterpret_cast<const uint32_t*>(mbarrier);
      break;
    case Misuse::kPlainWrite:
      *mbarrier = 0;
      break;
    case Misuse::kBytesThatNobodyCopies:
      MbarrierArriveExpect(mbarrier, 48);
      MbarrierArrive(mbarrier);
      MbarrierWait(mbarrier, 0);
      break;
    case Misuse::kPollsForNobody:
      while (!MbarrierTest(mbarrier, 0)) {
      }
      break;
    case Misuse::kForNobody:
      break;
  }
}

Corner CornerAt(const int32_t* at, int rank) {
  Corner corner = {};
  for (int i = 0; i < rank; ++i) corner.at[i] = at[i];
  return corner;
}

}  // namespace

void CopyPieces(const uint32_t* in, int pieces, uint32_t* out) {
  TEMPER_LAUNCH(PiecesKernel, 1, pieces, pieces * 16, nullptr, in, pieces, out);
}

bool LoadBoxOf(const void* base, const TensorShape& shape, const int32_t* at,
               uint32_t bytes, uint32_t skip, unsigned char* out) {
  TensorMap map;
  if (!MakeTensorMap(base, shape, &map)) return false;
  TEMPER_LAUNCH(LoadBoxKernel, 1, 32, bytes + 8 + skip, nullptr, map,
                shape.rank, CornerAt(at, shape.rank), bytes, skip, out);
  return true;
}

bool StoreBoxOf(void* base, const TensorShape& shape, const int32_t* at,
                uint32_t bytes, const unsigned char* in) {
  TensorMap map;
  if (!MakeTensorMap(base, shape, &map)) return false;
  TEMPER_LAUNCH(StoreBoxKernel, 1, 32, bytes, nullptr, map, shape.rank,
                CornerAt(at, shape.rank), bytes, in);
  return true;
}

bool LoadBoxOfOtherRank(const void* base, const TensorShape& shape) {
  TensorMap map;
  if (!MakeTensorMap(base, shape, &map)) return false;
  TEMPER_LAUNCH(LoadBoxKernel, 1, 32, 1024, nullptr, map, 1, Corner{}, 512u, 0u,
                nullptr);
  return true;
}

void LoadBytes(const unsigned char* in, uint32_t bytes, unsigned char* out) {
  TEMPER_LAUNCH(LoadBytesKernel, 1, 32, bytes + 8, nullptr, in, bytes, out);
}

void CountPhases(int phases, bool poll, int* out) {
  TEMPER_LAUNCH(PhasesKernel, 1, 40, 0, nullptr, phases, poll, out);
}

void MisuseMbarrier(Misuse misuse, uint32_t* out) {
  TEMPER_LAUNCH(MisuseKernel, 1, 1, 8, nullptr, misuse, out);
}

}  // namespace temper::simt
