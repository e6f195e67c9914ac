#include "kernels/cuda/simt/wgmma.h"

#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "kernels/cuda/simt/access.h"
#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/memory.h"
#include "kernels/cuda/simt/operand_tile.h"
#include "kernels/cuda/simt/report.h"
#include "kernels/cuda/simt/shadow.h"
#include "kernels/cuda/simt/warp.h"
#include "kernels/cuda/simt/work.h"

namespace temper::simt {
namespace {

constexpr uint32_t kWarps = kBlockThreadsMax / kWarpLanes;
constexpr int kWarpRows = 16;
constexpr uint32_t kPoisonWord = 0xffffffff;

// The registers that a warp's sum is in, and the sum while they are poison.
struct SumInFlight {
  std::array<float*, kWarpLanes> registers;
  int columns;
  std::vector<float> values;  // [row][column] of the warp's sixteen rows
  int products = 0;           // that are still to be added
};

struct ProductInFlight {
  Product product;
  std::shared_ptr<SumInFlight> sum;
  std::vector<OperandPiece> a, b;
  std::vector<Operand> a_of_registers;                       // [row][32]
  std::array<const uint32_t*, kWarpLanes> a_registers = {};  // null: none
  Access access;
  uint32_t group;
};

struct WarpState {
  bool fenced = false;
  // Words of their stacks that the lanes have written since the fence.
  std::array<std::unordered_set<uintptr_t>, kWarpLanes> written;
  uint32_t group = 0;  // of the products that come next
  std::vector<ProductInFlight> flying;
  std::vector<Product> asked;  // since the block began, to compare warps
};
std::array<WarpState, kWarps> warps;

// What a lane brings to a Multiply.
struct Request {
  float* d;
  const Product* product;
  Site site;
};

const Request& Of(const Meeting& meeting, uint32_t lane) {
  return *static_cast<const Request*>(meeting.in[lane]);
}

bool SameProduct(const Product& x, const Product& y) {
  return x.numbers == y.numbers && x.columns == y.columns &&
         (x.a_registers == nullptr) == (y.a_registers == nullptr) &&
         x.a == y.a && x.b == y.b && x.a_major == y.a_major &&
         x.b_major == y.b_major && x.accumulate == y.accumulate;
}

// All lanes, and all warps of the warpgroup, ask for the same products in the
// same order.
void CheckAgreement(const Meeting& meeting) {
  const Product& product = *Of(meeting, 0).product;
  WarpState& mine = warps[meeting.warp];
  const size_t place = mine.asked.size();
  bool same = true;
  for (uint32_t lane = 1; lane < kWarpLanes; ++lane) {
    same &= SameProduct(*Of(meeting, lane).product, product);
  }
  const uint32_t first = meeting.warp / 4 * 4;
  for (uint32_t warp = first; warp < first + 4; ++warp) {
    const auto& asked = warps[warp].asked;
    if (asked.size() > place) same &= SameProduct(asked[place], product);
  }
  if (!same) {
    Fail("wgmma misuse", "a warpgroup's threads ask for different products",
         Of(meeting, 0).site);
  }
  mine.asked.push_back(product);
}

// Fails if a lane has written one of `count` registers since the fence.
void CheckFenced(const Meeting& meeting, uint32_t lane, const void* registers,
                 int count, const char* which) {
  const auto& written = warps[meeting.warp].written[lane];
  const auto first = reinterpret_cast<uintptr_t>(registers);
  for (int i = 0; i < count; ++i) {
    if (!written.contains(first + i * sizeof(uint32_t))) continue;
    Fail("missing wgmma fence",
         std::string("a thread has written registers of ") + which +
             " since the last",
         Of(meeting, lane).site);
  }
}

std::shared_ptr<SumInFlight> SumOf(const Meeting& meeting) {
  const Product& product = *Of(meeting, 0).product;
  WarpState& mine = warps[meeting.warp];
  for (const ProductInFlight& flying : mine.flying) {
    if (flying.sum->registers[0] == Of(meeting, 0).d) return flying.sum;
  }
  if (!mine.fenced) {
    Fail("missing wgmma fence",
         "the tensor core is to add to registers that it was not given",
         Of(meeting, 0).site);
  }
  auto sum = std::make_shared<SumInFlight>();
  sum->columns = product.columns;
  sum->values.resize(kWarpRows * product.columns);
  for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    float* const d = Of(meeting, lane).d;
    CheckFenced(meeting, lane, d, product.columns / 2, "the sum");
    sum->registers[lane] = d;
    for (int i = 0; i < product.columns / 2; ++i) {
      const int row = lane / 4 + i % 4 / 2 * 8;
      const int column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      sum->values[row * product.columns + column] = d[i];
      std::memcpy(&d[i], &kPoisonWord, sizeof(kPoisonWord));
    }
  }
  return sum;
}

std::vector<Operand> RegistersOfA(const Meeting& meeting) {
  std::vector<Operand> a(kWarpRows * 32);
  for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    const Product& product = *Of(meeting, lane).product;
    const int per = product.numbers == Numbers::kBf16 ? 2 : 4;
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i % 2 * 8;
      const int k = lane % 4 * per + i / 2 * 4 * per;
      for (int j = 0; j < per; ++j) {
        const uint32_t word = product.a_registers[i] >> (32 / per * j);
        a[row * 32 + k + j] = per == 2
                                  ? OperandOfBf16(static_cast<uint16_t>(word))
                                  : OperandOfE4m3(static_cast<uint8_t>(word));
      }
    }
  }
  return a;
}

template <typename Note>
void ForShared(const ProductInFlight& flying, Note note) {
  for (const auto* pieces : {&flying.a, &flying.b}) {
    for (const OperandPiece& piece : *pieces) {
      (Shadow::Get().*note)(SharedOffset(reinterpret_cast<uintptr_t>(piece.at)),
                            16, flying.access);
    }
  }
}

void CombineMultiply(const Meeting& meeting) {
  CheckAgreement(meeting);
  const Request& first = Of(meeting, 0);
  ProductInFlight flying;
  flying.product = *first.product;
  const Product& product = flying.product;
  const int first_row = static_cast<int>(meeting.warp % 4) * kWarpRows;
  if (product.a_registers != nullptr) {
    for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
      flying.a_registers[lane] = Of(meeting, lane).product->a_registers;
      CheckFenced(meeting, lane, flying.a_registers[lane], 4, "A");
    }
    flying.a_of_registers = RegistersOfA(meeting);
  } else {
    flying.a = PiecesOf(product.a, product.numbers, product.a_major, first_row,
                        kWarpRows, first.site);
  }
  flying.b = PiecesOf(product.b, product.numbers, product.b_major, 0,
                      product.columns, first.site);
  flying.sum = SumOf(meeting);
  ++flying.sum->products;
  flying.group = warps[meeting.warp].group;
  flying.access.proxy = Proxy::kAsync;
  flying.access.actor = kTensorCores + meeting.warp / 4;
  flying.access.asker = ActorOf(Block::Get().thread(meeting.warp * kWarpLanes));
  flying.access.site = first.site;
  ForShared(flying, &Shadow::BeginRead);
  const uint64_t depth = product.numbers == Numbers::kBf16 ? 16 : 32;
  NoteWork({.multiplications = kWarpRows * product.columns * depth});
  warps[meeting.warp].flying.push_back(std::move(flying));
}

// Adds the product to its sum; the last of them puts the sum into registers.
void End(ProductInFlight& flying, uint32_t warp) {
  const Product& product = flying.product;
  const int first_row = static_cast<int>(warp % 4) * kWarpRows;
  std::vector<Operand> a = std::move(flying.a_of_registers);
  if (a.empty()) {
    a.resize(kWarpRows * 32);
    Decode(flying.a, product.numbers, product.a_major, first_row, a.data());
  }
  std::vector<Operand> b(product.columns * 32);
  Decode(flying.b, product.numbers, product.b_major, 0, b.data());
  const bool bf16 = product.numbers == Numbers::kBf16;
  for (int row = 0; row < kWarpRows; ++row) {
    for (int column = 0; column < product.columns; ++column) {
      float& value = flying.sum->values[row * product.columns + column];
      const float start = product.accumulate ? value : 0.f;
      const Operand* x = &a[row * 32];
      const Operand* y = &b[column * 32];
      value = bf16 ? DotBf16(x, y, 16, start) : DotE4m3(x, y, 32, start);
    }
  }
  ForShared(flying, &Shadow::EndRead);
  SumInFlight& sum = *flying.sum;
  if (--sum.products > 0) return;
  for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    for (int i = 0; i < sum.columns / 2; ++i) {
      const int row = lane / 4 + i % 4 / 2 * 8;
      const int column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      sum.registers[lane][i] = sum.values[row * sum.columns + column];
    }
  }
}

void CombineFence(const Meeting& meeting) {
  WarpState& mine = warps[meeting.warp];
  mine.fenced = true;
  for (auto& words : mine.written) words.clear();
}

void CombineCommit(const Meeting& meeting) { ++warps[meeting.warp].group; }

void CombineWait(const Meeting& meeting) {
  const uint32_t pending = *static_cast<const uint32_t*>(meeting.in[0]);
  WarpState& mine = warps[meeting.warp];
  std::vector<ProductInFlight> left;
  for (ProductInFlight& flying : mine.flying) {
    if (flying.group + pending < mine.group) {
      End(flying, meeting.warp);
    } else {
      left.push_back(std::move(flying));
    }
  }
  mine.flying = std::move(left);
  mine.fenced = false;  // the registers may be the threads' own again
  Order& order = Order::Get();
  Handover handover;
  order.Release(kTensorCores + meeting.warp / 4, handover);
  for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    order.Acquire(
        ActorOf(Block::Get().thread(meeting.warp * kWarpLanes + lane)),
        handover);
  }
}

}  // namespace

void Multiply(float* d, const Product& product, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  const uint32_t warp = Block::Get().current()->warp;
  if (warp / 4 * 4 + 4 > Block::Get().warp_count()) {
    Fail("wgmma misuse", "the block's last warps are no warpgroup of four",
         site);
  }
  const Request request = {d, &product, site};
  MeetWhole("wgmma", &request, nullptr, &CombineMultiply, site);
}

void FenceMultiplies(Where where) {
  const InEmulator in_emulator;
  const int nothing = 0;
  MeetWhole("wgmma.fence", &nothing, nullptr, &CombineFence,
            Site::OfCall(where));
}

void CommitMultiplies(Where where) {
  const InEmulator in_emulator;
  const int nothing = 0;
  MeetWhole("wgmma.commit_group", &nothing, nullptr, &CombineCommit,
            Site::OfCall(where));
}

void WaitMultiplies(uint32_t pending, Where where) {
  const InEmulator in_emulator;
  MeetWhole("wgmma.wait_group", &pending, nullptr, &CombineWait,
            Site::OfCall(where));
}

void CheckRegisters(const Thread& thread, uintptr_t at, size_t bytes,
                    bool write, Site site) {
  WarpState& mine = warps[thread.warp];
  if (write && mine.fenced) {
    constexpr uintptr_t kWord = sizeof(uint32_t);
    for (uintptr_t word = at / kWord * kWord; word < at + bytes;
         word += kWord) {
      mine.written[thread.lane].insert(word);
    }
  }
  for (const ProductInFlight& flying : mine.flying) {
    const auto a = reinterpret_cast<uintptr_t>(flying.a_registers[thread.lane]);
    if (write && a != 0 && at + bytes > a && at < a + 4 * sizeof(uint32_t)) {
      Fail("overwritten too early",
           "writes registers of A, which a wgmma in flight reads", site);
    }
    const auto low =
        reinterpret_cast<uintptr_t>(flying.sum->registers[thread.lane]);
    const size_t size = flying.sum->columns / 2 * sizeof(float);
    if (at + bytes <= low || at >= low + size) continue;
    Fail("read before its wait",
         std::string(write ? "writes" : "reads") +
             " registers that a wgmma in flight adds to",
         site);
  }
}

bool HasMultiplies(const Thread& thread) {
  const WarpState& mine = warps[thread.warp];
  return mine.fenced || !mine.flying.empty();
}

void BeginMultiplies() {
  for (uint32_t warp = 0; warp < Block::Get().warp_count(); ++warp) {
    WarpState& mine = warps[warp];
    mine.fenced = false;
    mine.group = 0;
    mine.flying.clear();
    mine.asked.clear();
  }
}

void EndThreadOfMultiplies(const Thread& thread) {
  if (warps[thread.warp].flying.empty()) return;
  Fail("unfinished", "the thread ends before a wgmma of its warp",
       warps[thread.warp].flying.front().access.site);
}

}  // namespace temper::simt
