#include "kernels/cuda/simt/atomic.h"

#include <cstring>

#include "kernels/cuda/simt/access.h"
#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/report.h"

namespace temper::simt {
namespace {

// What stands there after it. Values come sign- or zero-extended to 64 bits.
uint64_t Changed(AtomicOp op, bool is_signed, uint64_t old, uint64_t value,
                 uint64_t compare) {
  const bool less =
      is_signed ? static_cast<int64_t>(old) < static_cast<int64_t>(value)
                : old < value;
  switch (op) {
    case AtomicOp::kAdd:
      return old + value;
    case AtomicOp::kOr:
      return old | value;
    case AtomicOp::kAnd:
      return old & value;
    case AtomicOp::kMax:
      return less ? value : old;
    case AtomicOp::kMin:
      return less ? old : value;
    case AtomicOp::kExchange:
      return value;
    case AtomicOp::kCompareAndSwap:
      return old == compare ? value : old;
  }
  return old;
}

}  // namespace

uint64_t Atomic(AtomicOp op, bool is_signed, void* at, size_t bytes,
                uint64_t value, uint64_t compare, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  CheckAccess(at, bytes, AccessKind::kAtomic, site);
  uint64_t old = 0;
  std::memcpy(&old, at, bytes);
  if (is_signed && bytes == 4) {
    old = static_cast<uint64_t>(static_cast<int32_t>(old));
  }
  const uint64_t now = Changed(op, is_signed, old, value, compare);
  std::memcpy(at, &now, bytes);
  // One that changes nothing may be a poll: let the others run.
  if (now != old) {
    Block::Get().NoteProgress();
  } else if (!Block::Get().Poll()) {
    Fail("starvation", "it polls for what nobody does any more", site);
  }
  return old;
}

}  // namespace temper::simt
