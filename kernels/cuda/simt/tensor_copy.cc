#include "kernels/cuda/simt/tensor_copy.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cuda/simt/access.h"
#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/mbarrier.h"
#include "kernels/cuda/simt/memory.h"
#include "kernels/cuda/simt/report.h"
#include "kernels/cuda/simt/shadow.h"
#include "kernels/cuda/simt/work.h"

namespace temper::simt {
namespace {

constexpr uint32_t kPieceBytes = 16;  // what lies together under any swizzle
constexpr uint32_t kBoxMax = 256;     // elements in a dimension
constexpr size_t kBoxAlignment = 128;

// A piece of a copy: bytes that lie together in shared memory, of which `held`
// from `first` on are the tensor's, at `global`. The others are outside of it.
struct Piece {
  unsigned char* shared;
  uint32_t bytes;
  unsigned char* global;
  uint32_t first;
  uint32_t held;
};

struct Copy {
  bool load;
  std::vector<Piece> pieces;
  uint32_t bytes = 0;
  uint64_t* mbarrier = nullptr;  // of a load
  uint32_t thread = 0;           // of a store, and its group
  uint32_t group = 0;
  Access access;
};

std::vector<Copy> copies;  // that have begun, oldest first
uint32_t group_of[kBlockThreadsMax];

uint32_t ElementBytes(ElementType type) {
  switch (type) {
    case ElementType::kByte:
      return 1;
    case ElementType::kBf16:
      return 2;
    case ElementType::kF32:
      return 4;
  }
  return 0;
}

uint32_t SwizzleBytes(Swizzle swizzle) {
  switch (swizzle) {
    case Swizzle::kNone:
      return 0;
    case Swizzle::k32Bytes:
      return 32;
    case Swizzle::k64Bytes:
      return 64;
    case Swizzle::k128Bytes:
      return 128;
  }
  return 0;
}

// The piece that begins at `element` of the tensor.
Piece PieceAt(const TensorMap& map, const int64_t* element,
              unsigned char* shared) {
  const TensorShape& shape = map.shape;
  const int64_t bytes = ElementBytes(shape.type);
  Piece piece = {shared, kPieceBytes, nullptr, 0, 0};
  auto* row = static_cast<unsigned char*>(const_cast<void*>(map.base));
  for (int i = 1; i < shape.rank; ++i) {
    const auto size = static_cast<int64_t>(shape.sizes[i]);
    if (element[i] < 0 || element[i] >= size) return piece;
    row += element[i] * static_cast<int64_t>(shape.stride_bytes[i - 1]);
  }
  const int64_t begin = std::max<int64_t>(element[0], 0);
  const int64_t end = std::min<int64_t>(element[0] + kPieceBytes / bytes,
                                        static_cast<int64_t>(shape.sizes[0]));
  if (begin >= end) return piece;
  piece.global = row + begin * bytes;
  piece.first = static_cast<uint32_t>((begin - element[0]) * bytes);
  piece.held = static_cast<uint32_t>((end - begin) * bytes);
  return piece;
}

// Of the box at `at`: rows lie one after another in shared memory, then pieces
// change places.
std::vector<Piece> PiecesOfBox(const TensorMap& map, const int32_t* at,
                               unsigned char* shared, uint32_t bytes,
                               Site site) {
  const TensorShape& shape = map.shape;
  std::vector<Piece> pieces;
  for (uint32_t place = 0; place < bytes; place += kPieceBytes) {
    uint64_t rest = place / ElementBytes(shape.type);
    int64_t element[kTensorRankMax];
    for (int i = 0; i < shape.rank; ++i) {
      element[i] = at[i] + static_cast<int64_t>(rest % shape.box[i]);
      rest /= shape.box[i];
    }
    pieces.push_back(PieceAt(
        map, element,
        reinterpret_cast<unsigned char*>(Swizzled(
            reinterpret_cast<uintptr_t>(shared) + place, shape.swizzle))));
    const Piece& piece = pieces.back();
    if (piece.held > 0) CheckGlobal(piece.global, piece.held, 1, site);
  }
  return pieces;
}

[[noreturn]] void Misuse(const std::string& what, Site site) {
  Fail("tensor copy misuse", what, site);
}

Copy CopyOfBox(bool load, const TensorMap* map, int rank, const int32_t* at,
               unsigned char* shared, Site site) {
  if (rank != map->shape.rank) {
    Misuse("a copy of " + std::to_string(rank) + " dimensions of a tensor of " +
               std::to_string(map->shape.rank),
           site);
  }
  Copy copy;
  copy.load = load;
  copy.bytes = ElementBytes(map->shape.type);
  for (int i = 0; i < rank; ++i) copy.bytes *= map->shape.box[i];
  CheckShared(shared, copy.bytes, kBoxAlignment, site);
  copy.pieces = PiecesOfBox(*map, at, shared, copy.bytes, site);
  return copy;
}

// Notes the copy's accesses to shared memory, a piece of 16 bytes at a time.
template <typename Note>
void ForShared(const Copy& copy, Note note) {
  for (const Piece& piece : copy.pieces) {
    (Shadow::Get().*note)(
        SharedOffset(reinterpret_cast<uintptr_t>(piece.shared)), piece.bytes,
        copy.access);
  }
}

void Begin(Copy copy, Site site) {
  copy.access.write = copy.load;
  copy.access.proxy = Proxy::kAsync;
  copy.access.actor = kTensorCopies;
  copy.access.asker = ActorOf(*Block::Get().current());
  copy.access.site = site;
  copy.thread = Block::Get().current()->rank;
  copy.group = group_of[copy.thread];
  if (copy.load) {
    ForShared(copy, &Shadow::BeginWrite);
    Work work;
    for (const Piece& piece : copy.pieces) {
      std::memset(piece.shared, kPoison, piece.bytes);
      work.bytes_copied += piece.held;
    }
    NoteWork(work);
  } else {
    ForShared(copy, &Shadow::BeginRead);
  }
  copies.push_back(std::move(copy));
}

void End(size_t index) {
  const Copy copy = std::move(copies[index]);
  copies.erase(copies.begin() + index);
  for (const Piece& piece : copy.pieces) {
    if (copy.load) std::memset(piece.shared, 0, piece.bytes);
    if (piece.held == 0) continue;
    if (copy.load) {
      std::memcpy(piece.shared + piece.first, piece.global, piece.held);
    } else {
      std::memcpy(piece.global, piece.shared + piece.first, piece.held);
    }
  }
  if (copy.load) {
    ForShared(copy, &Shadow::EndWrite);
    ArriveCopiedBytes(copy.mbarrier, copy.bytes, copy.access.site);
  } else {
    ForShared(copy, &Shadow::EndRead);
  }
}

}  // namespace

uintptr_t Swizzled(uintptr_t address, Swizzle swizzle) {
  switch (swizzle) {
    case Swizzle::kNone:
      return address;
    case Swizzle::k32Bytes:
      return address ^ (address >> 7 & 1) << 4;
    case Swizzle::k64Bytes:
      return address ^ (address >> 7 & 3) << 4;
    case Swizzle::k128Bytes:
      return address ^ (address >> 7 & 7) << 4;
  }
  return address;
}

bool MakeTensorMap(const void* base, const TensorShape& shape, TensorMap* map) {
  if (shape.rank < 1 || shape.rank > kTensorRankMax) return false;
  if (reinterpret_cast<uintptr_t>(base) % kPieceBytes != 0) return false;
  for (int i = 0; i < shape.rank; ++i) {
    if (shape.sizes[i] == 0 || shape.sizes[i] > uint64_t{1} << 32) return false;
    if (shape.box[i] == 0 || shape.box[i] > kBoxMax) return false;
    if (i > 0 && (shape.stride_bytes[i - 1] % kPieceBytes != 0 ||
                  shape.stride_bytes[i - 1] >= uint64_t{1} << 40)) {
      return false;
    }
  }
  const uint32_t row_bytes = shape.box[0] * ElementBytes(shape.type);
  if (row_bytes % kPieceBytes != 0) return false;
  // Hardware takes narrower rows too; what it makes of them is not known here.
  const uint32_t swizzle_bytes = SwizzleBytes(shape.swizzle);
  if (swizzle_bytes != 0 && row_bytes != swizzle_bytes) return false;
  *map = {base, shape};
  return true;
}

void LoadBox(void* shared, const TensorMap* map, int rank, const int32_t* at,
             uint64_t* mbarrier, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  CheckArrivalOfCopy(mbarrier, site);
  Copy copy = CopyOfBox(/*load=*/true, map, rank, at,
                        static_cast<unsigned char*>(shared), site);
  copy.mbarrier = mbarrier;
  Begin(std::move(copy), site);
}

void StoreBox(const TensorMap* map, int rank, const int32_t* at,
              const void* shared, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  auto* from = static_cast<unsigned char*>(const_cast<void*>(shared));
  Begin(CopyOfBox(/*load=*/false, map, rank, at, from, site), site);
}

void LoadBulk(void* shared, const void* global, uint32_t bytes,
              uint64_t* mbarrier, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  CheckArrivalOfCopy(mbarrier, site);
  if (bytes == 0 || bytes % kPieceBytes != 0) {
    Misuse("a copy of " + std::to_string(bytes) + " bytes: no multiple of 16",
           site);
  }
  CheckShared(shared, bytes, kPieceBytes, site);
  CheckGlobal(global, bytes, kPieceBytes, site);
  Copy copy;
  copy.load = true;
  copy.bytes = bytes;
  copy.mbarrier = mbarrier;
  copy.pieces = {{static_cast<unsigned char*>(shared), bytes,
                  static_cast<unsigned char*>(const_cast<void*>(global)), 0,
                  bytes}};
  Begin(std::move(copy), site);
}

void CommitStores() { ++group_of[Block::Get().current()->rank]; }

void WaitStores(uint32_t pending) {
  const InEmulator in_emulator;
  const Thread& thread = *Block::Get().current();
  for (size_t i = 0; i < copies.size();) {
    const Copy& copy = copies[i];
    const bool mine = !copy.load && copy.thread == thread.rank &&
                      copy.group + pending < group_of[thread.rank];
    if (mine) {
      End(i);
    } else {
      ++i;
    }
  }
  Order::Get().Inherit(ActorOf(thread), kTensorCopies);
}

bool EndSomeCopy() {
  Block& block = Block::Get();
  std::vector<size_t> loads;  // that others may wait for
  for (size_t i = 0; i < copies.size(); ++i) {
    if (copies[i].load) loads.push_back(i);
  }
  if (loads.empty()) return false;
  switch (block.policy()) {
    case Policy::kAscending:
      End(loads.front());
      break;
    case Policy::kDescending:
      End(loads.back());
      break;
    default:
      End(loads[block.Draw() % loads.size()]);
  }
  return true;
}

void BeginTensorCopies() {
  copies.clear();
  std::memset(group_of, 0, sizeof(group_of));
}

void EndThreadOfTensorCopies(const Thread& thread) {
  for (const Copy& copy : copies) {
    if (copy.load || copy.thread != thread.rank) continue;
    Fail("unfinished", "the thread ends before its store from shared memory",
         copy.access.site);
  }
}

void EndBlockOfTensorCopies() {
  for (const Copy& copy : copies) {
    Fail("unfinished", "the block ends before a copy into its shared memory",
         copy.access.site);
  }
}

}  // namespace temper::simt
