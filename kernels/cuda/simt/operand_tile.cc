#include "kernels/cuda/simt/operand_tile.h"

#include <cstring>

#include "kernels/cuda/simt/access.h"
#include "kernels/cuda/simt/memory.h"
#include "kernels/cuda/simt/report.h"
#include "kernels/cuda/simt/tensor_copy.h"

namespace temper::simt {
namespace {

constexpr uint32_t kPieceBytes = 16;
// The address of a block's dynamic shared memory, as descriptors count: not
// zero, so that one who forgets the base is seen.
constexpr uint32_t kBase = kSharedAlignment;

// What the two top bits of a descriptor mean.
constexpr Swizzle kSwizzles[] = {Swizzle::kNone, Swizzle::k128Bytes,
                                 Swizzle::k64Bytes, Swizzle::k32Bytes};

struct Descriptor {
  uint32_t address;
  uint32_t leading;
  uint32_t stride;
  Swizzle swizzle;
};

Descriptor Parse(uint64_t bits, Site site) {
  if ((bits >> 49 & 7) != 0) {
    Fail("wgmma misuse", "a descriptor with a base offset", site);
  }
  const auto field = [bits](int shift) {
    return static_cast<uint32_t>(bits >> shift & 0x3fff) << 4;
  };
  return {field(0), field(16), field(32), kSwizzles[bits >> 62]};
}

// Pieces of 16 bytes in a row of the swizzle's pattern.
uint32_t PiecesAcross(Swizzle swizzle) {
  switch (swizzle) {
    case Swizzle::kNone:
      return 1;
    case Swizzle::k32Bytes:
      return 2;
    case Swizzle::k64Bytes:
      return 4;
    case Swizzle::k128Bytes:
      return 8;
  }
  return 1;
}

// The canonical layouts of the PTX ISA, in bytes from the address, before the
// swizzle. Of a piece of row `row` (in units of one), `piece` of k.
uint32_t OffsetKMajor(const Descriptor& d, uint32_t row, uint32_t piece) {
  if (d.swizzle == Swizzle::kNone) {
    return row / 8 * d.stride + row % 8 * kPieceBytes + piece * d.leading;
  }
  return row / 8 * d.stride + row % 8 * PiecesAcross(d.swizzle) * kPieceBytes +
         piece * kPieceBytes;
}

// Of a piece of eight rows, `piece`, and one k.
uint32_t OffsetRowMajor(const Descriptor& d, uint32_t piece, uint32_t k) {
  const uint32_t across = PiecesAcross(d.swizzle);
  if (d.swizzle == Swizzle::kNone) {
    return piece * d.stride + k % 8 * kPieceBytes + k / 8 * d.leading;
  }
  return piece % across * kPieceBytes + piece / across * d.leading +
         k % 8 * across * kPieceBytes + k / 8 * d.stride;
}

// Rows of a pattern are told by the address, so a pattern has to begin where
// its eight rows do.
void CheckPattern(const Descriptor& d, Site site) {
  const uint32_t row = PiecesAcross(d.swizzle) * kPieceBytes;
  if (d.swizzle == Swizzle::kNone || d.address % (8 * row) < row) return;
  Fail("wgmma misuse",
       "an operand that begins within the eight rows of a swizzle's pattern",
       site);
}

}  // namespace

uint64_t DescribeMatrix(const void* shared, uint32_t leading_bytes,
                        uint32_t stride_bytes, Swizzle swizzle) {
  const auto place = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(shared) -
                                           DynamicRegion().low);
  const auto field = [](uint32_t bytes) {
    return uint64_t{(bytes & 0x3ffff) >> 4};
  };
  uint64_t top = 0;
  while (kSwizzles[top] != swizzle) ++top;
  return field(place + kBase) | field(leading_bytes) << 16 |
         field(stride_bytes) << 32 | top << 62;
}

std::vector<OperandPiece> PiecesOf(uint64_t descriptor, Numbers numbers,
                                   Major major, int first_row, int rows,
                                   Site site) {
  const Descriptor d = Parse(descriptor, site);
  CheckPattern(d, site);
  if (major == Major::kRow && numbers != Numbers::kBf16) {
    Fail("wgmma misuse", "e4m3 operands lie k by k", site);
  }
  std::vector<OperandPiece> pieces;
  const auto add = [&](uint32_t offset, int row, int k) {
    const uintptr_t at =
        Swizzled(DynamicRegion().low - kBase + d.address + offset, d.swizzle);
    auto* const address = reinterpret_cast<unsigned char*>(at);
    CheckShared(address, kPieceBytes, kPieceBytes, site);
    pieces.push_back({address, row, k});
  };
  if (major == Major::kK) {
    const int across = numbers == Numbers::kBf16 ? 8 : 16;
    for (int row = first_row; row < first_row + rows; ++row) {
      for (int piece = 0; piece < 2; ++piece) {
        add(OffsetKMajor(d, row, piece), row, piece * across);
      }
    }
    return pieces;
  }
  for (int row = first_row; row < first_row + rows; row += 8) {
    for (int k = 0; k < 16; ++k) add(OffsetRowMajor(d, row / 8, k), row, k);
  }
  return pieces;
}

void Decode(const std::vector<OperandPiece>& pieces, Numbers numbers,
            Major major, int first_row, Operand* operands) {
  for (const OperandPiece& piece : pieces) {
    Operand* to = operands + (piece.row - first_row) * 32 + piece.k;
    if (numbers == Numbers::kE4m3) {
      for (int i = 0; i < 16; ++i) to[i] = OperandOfE4m3(piece.at[i]);
      continue;
    }
    for (int i = 0; i < 8; ++i) {
      uint16_t bits;
      std::memcpy(&bits, piece.at + 2 * i, sizeof(bits));
      to[major == Major::kK ? i : 32 * i] = OperandOfBf16(bits);
    }
  }
}

}  // namespace temper::simt
