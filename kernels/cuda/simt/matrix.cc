#include "kernels/cuda/simt/matrix.h"

#include <cstring>
#include <utility>

#include "kernels/cuda/simt/access.h"
#include "kernels/cuda/simt/accumulator.h"
#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/warp.h"
#include "kernels/cuda/simt/wgmma.h"

namespace temper::simt {
namespace {

constexpr uint32_t kRows = 8;
constexpr size_t kRowBytes = 16;

// What a lane brings to a load or store of matrices.
struct RowOfLane {
  unsigned char* row;
  int count;
  Layout layout;
  uint32_t* registers;  // of a store, what it holds; of a load, the result
};

const RowOfLane& Of(const Meeting& meeting, uint32_t lane) {
  return *static_cast<const RowOfLane*>(meeting.in[lane]);
}

// The element of 16 bits that half `half` of a lane's register of matrix `m`
// is.
unsigned char* Element(const Meeting& meeting, uint32_t lane, int m, int half) {
  uint32_t row = lane / 4;
  uint32_t column = lane % 4 * 2 + half;
  if (Of(meeting, lane).layout == Layout::kTransposed) std::swap(row, column);
  return Of(meeting, m * kRows + row).row + column * 2;
}

void CombineLoad(const Meeting& meeting) {
  for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    const RowOfLane& mine = Of(meeting, lane);
    for (int m = 0; m < mine.count; ++m) {
      uint16_t halves[2];
      for (int half = 0; half < 2; ++half) {
        std::memcpy(&halves[half], Element(meeting, lane, m, half), 2);
      }
      mine.registers[m] = halves[0] | uint32_t{halves[1]} << 16;
    }
  }
}

void CombineStore(const Meeting& meeting) {
  for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    const RowOfLane& mine = Of(meeting, lane);
    for (int m = 0; m < mine.count; ++m) {
      for (int half = 0; half < 2; ++half) {
        const auto bits =
            static_cast<uint16_t>(mine.registers[m] >> (16 * half));
        std::memcpy(Element(meeting, lane, m, half), &bits, 2);
      }
    }
  }
}

// The lane whose row it is answers for the access to it.
void CheckRow(const RowOfLane& mine, AccessKind kind, Site site) {
  const Thread& thread = *Block::Get().current();
  if (thread.lane >= kRows * mine.count) return;
  CheckShared(mine.row, kRowBytes, kRowBytes, site);
  CheckAccess(mine.row, kRowBytes, kind, site);
}

struct Fragments {
  const float* c;
  const uint32_t* a;
  const uint32_t* b;
};

// Whole operands of the warp, [rows or columns][k].
struct Operands {
  Operand a[16][32];
  Operand b[8][32];
};

// `per` operands a register, of 32 / per bits, from `bits`.
template <int kPer>
Operand OperandIn(uint32_t word, int i) {
  if constexpr (kPer == 2) {
    return OperandOfBf16(static_cast<uint16_t>(word >> (16 * i)));
  } else {
    return OperandOfE4m3(static_cast<uint8_t>(word >> (8 * i)));
  }
}

template <int kPer>
Operands Gather(const Meeting& meeting) {
  Operands operands;
  for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    const auto& mine = *static_cast<const Fragments*>(meeting.in[lane]);
    const int g = lane / 4;
    const int first = lane % 4 * kPer;
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < kPer; ++i) {
        const int k = first + half * 4 * kPer + i;
        operands.a[g][k] = OperandIn<kPer>(mine.a[2 * half], i);
        operands.a[g + 8][k] = OperandIn<kPer>(mine.a[2 * half + 1], i);
        operands.b[g][k] = OperandIn<kPer>(mine.b[half], i);
      }
    }
  }
  return operands;
}

template <int kPer>
void CombineMultiply(const Meeting& meeting) {
  const Operands operands = Gather<kPer>(meeting);
  for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    const auto& mine = *static_cast<const Fragments*>(meeting.in[lane]);
    float* const d = static_cast<float*>(meeting.out[lane]);
    for (int i = 0; i < 4; ++i) {
      const Operand* a = operands.a[lane / 4 + i / 2 * 8];
      const Operand* b = operands.b[lane % 4 * 2 + i % 2];
      d[i] = kPer == 2 ? DotBf16(a, b, 8 * kPer, mine.c[i])
                       : DotE4m3OfMmaSync(a, b, 8 * kPer, mine.c[i]);
    }
  }
}

}  // namespace

void LoadMatrices(uint32_t* registers, int count, Layout layout,
                  const void* row, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  const RowOfLane mine = {static_cast<unsigned char*>(const_cast<void*>(row)),
                          count, layout, registers};
  CheckRow(mine, AccessKind::kRead, site);
  MeetWhole("ldmatrix", &mine, nullptr, &CombineLoad, site);
  const Thread& thread = *Block::Get().current();
  if (!HasMultiplies(thread)) return;
  CheckRegisters(thread, reinterpret_cast<uintptr_t>(registers),
                 count * sizeof(uint32_t), /*write=*/true, site);
}

void StoreMatrices(void* row, int count, Layout layout,
                   const uint32_t* registers, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  const RowOfLane mine = {static_cast<unsigned char*>(row), count, layout,
                          const_cast<uint32_t*>(registers)};
  CheckRow(mine, AccessKind::kWrite, site);
  MeetWhole("stmatrix", &mine, nullptr, &CombineStore, site);
}

void MultiplyBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                  Where where) {
  const InEmulator in_emulator;
  const Fragments mine = {d, a, b};
  MeetWhole("mma.sync of bf16", &mine, d, &CombineMultiply<2>,
            Site::OfCall(where));
}

void MultiplyE4m3(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                  Where where) {
  const InEmulator in_emulator;
  const Fragments mine = {d, a, b};
  MeetWhole("mma.sync of e4m3", &mine, d, &CombineMultiply<4>,
            Site::OfCall(where));
}

}  // namespace temper::simt
