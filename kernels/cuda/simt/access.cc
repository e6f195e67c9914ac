#include "kernels/cuda/simt/access.h"

#include <array>
#include <string>

#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/memory.h"
#include "kernels/cuda/simt/report.h"
#include "kernels/cuda/simt/shadow.h"
#include "kernels/cuda/simt/wgmma.h"

// The linker's bounds of the program.
extern "C" const char __executable_start[];
extern "C" const char _end[];

namespace temper::simt {
namespace {

// Accesses after which others get a turn: a loop over plain loads may wait for
// one of them. It waits in vain if nobody has written for so many accesses.
constexpr uint32_t kTurn = 1 << 22;
constexpr uint32_t kRandomTurn = 1 << 9;
constexpr uint64_t kQuietMax = 1 << 26;

// Looked at by every access: the allocations touched last come first.
struct {
  bool on = false;
  uint32_t turn = kTurn;
  std::array<Region, 4> global;
  uint32_t oldest = 0;
  Region stack;
  Region arguments;  // of the launch
  Region dynamic_shared;
  Region static_shared;
  uint32_t turn_length = kTurn;
  uint64_t quiet = 0;  // whole turns' accesses since somebody wrote
} watch;

bool TouchesGlobal(uintptr_t at, size_t bytes) {
  for (const Region& region : watch.global) {
    if (region.Holds(at, bytes)) return true;
  }
  const Region region = AllocationAt(at);
  if (!region.Holds(at, bytes)) return false;
  watch.global[watch.oldest++ % watch.global.size()] = region;
  return true;
}

bool TouchesShared(uintptr_t at, size_t bytes) {
  return watch.dynamic_shared.Holds(at, bytes) ||
         watch.static_shared.Holds(at, bytes);
}

Region Program() {
  return {reinterpret_cast<uintptr_t>(__executable_start),
          static_cast<size_t>(_end - __executable_start)};
}

[[noreturn]] void FailOutOfBounds(uintptr_t at, size_t bytes, AccessKind kind,
                                  Site site) {
  std::string what = kind == AccessKind::kRead ? "reads " : "writes ";
  what += std::to_string(bytes) + " bytes";
  const Region shared = DynamicRegion();
  const Region below = AllocationAt(at);
  if (Program().Holds(at, 1)) {
    what += " of the program's own data";
  } else if (at >= shared.low && at - shared.low < shared.bytes + 4096) {
    what += " at offset " + std::to_string(at - shared.low) +
            " of dynamic shared memory, which has " +
            std::to_string(shared.bytes);
  } else if (below.bytes != 0 && at - below.low < below.bytes + 65536) {
    what += " at offset " + std::to_string(at - below.low) +
            " of an allocation of " + std::to_string(below.bytes);
  } else {
    what += " that are no memory of the device";
  }
  Fail("out of bounds", what, site);
}

void CheckAligned(uintptr_t at, size_t alignment, Site site) {
  if (at % alignment == 0) return;
  Fail("misaligned",
       "an access of " + std::to_string(alignment) +
           " bytes at an address that is no multiple of that",
       site);
}

void TakeTurn(Site site) {
  Block& block = Block::Get();
  watch.quiet += watch.turn_length;
  if (watch.quiet > kQuietMax) {
    Fail("starvation",
         "nobody writes, and it goes on; does it wait for a load?", site);
  }
  watch.turn_length = block.policy() == Policy::kRandom
                          ? 1 + block.Draw() % kRandomTurn
                          : kTurn;
  watch.turn = watch.turn_length;
  const InEmulator in_emulator;
  block.Yield();
}

}  // namespace

void CheckAccess(const void* address, size_t bytes, AccessKind kind,
                 Site site) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  if (!TouchesShared(at, bytes)) {
    if (watch.stack.Holds(at, bytes) || TouchesGlobal(at, bytes)) return;
    if (kind == AccessKind::kRead && Program().Holds(at, bytes)) return;
    FailOutOfBounds(at, bytes, kind, site);
  }
  Access access;
  access.write = kind != AccessKind::kRead;
  access.atomic = kind == AccessKind::kAtomic;
  access.actor = access.asker = ActorOf(*Block::Get().current());
  access.site = site;
  Shadow::Get().Touch(SharedOffset(at), bytes, access);
}

size_t CheckShared(const void* address, size_t bytes, size_t alignment,
                   Site site) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  CheckAligned(at, alignment, site);
  if (!TouchesShared(at, bytes)) {
    FailOutOfBounds(at, bytes, AccessKind::kWrite, site);
  }
  return SharedOffset(at);
}

void CheckGlobal(const void* address, size_t bytes, size_t alignment,
                 Site site) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  CheckAligned(at, alignment, site);
  if (!TouchesGlobal(at, bytes)) {
    FailOutOfBounds(at, bytes, AccessKind::kRead, site);
  }
}

InEmulator::InEmulator() { watch.on = false; }
InEmulator::~InEmulator() { WatchThread(Block::Get().current()); }

void WatchThread(const Thread* thread) {
  watch.on = thread != nullptr;
  if (thread == nullptr) return;
  watch.stack = thread->fiber->stack();
}

void ForgetRegions() {
  watch.global.fill({});
  const Launched& launched = Block::Get().launched();
  watch.arguments = {reinterpret_cast<uintptr_t>(launched.arguments),
                     launched.arguments_bytes};
  watch.dynamic_shared = DynamicRegion();
  watch.static_shared = StaticRegion();
  const bool random = Block::Get().policy() == Policy::kRandom;
  watch.turn = watch.turn_length = random ? 1 : kTurn;
  watch.quiet = 0;
}

namespace {

// What every instrumented access comes to.
inline void Look(const void* address, size_t bytes, size_t alignment,
                 AccessKind kind, const void* return_address) {
  if (!watch.on) return;
  if (kind == AccessKind::kWrite) watch.quiet = 0;
  if (--watch.turn == 0) TakeTurn(Site::OfInstruction(return_address));
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  if (at % alignment == 0) {
    for (const Region& region : watch.global) {
      if (region.Holds(at, bytes)) return;
    }
  }
  if (watch.stack.Holds(at, bytes)) {
    const Thread& thread = *Block::Get().current();
    if (HasMultiplies(thread)) {
      CheckRegisters(thread, at, bytes, kind != AccessKind::kRead,
                     Site::OfInstruction(return_address));
    }
    return;
  }
  if (kind == AccessKind::kRead && watch.arguments.Holds(at, bytes)) return;
  const Site site = Site::OfInstruction(return_address);
  if (at % alignment != 0) CheckAligned(at, alignment, site);
  CheckAccess(address, bytes, kind, site);
}

}  // namespace
}  // namespace temper::simt

// The names are the compiler's. Code that nobody calls as a kernel, the host's,
// comes here too and is not looked at.
using temper::simt::AccessKind;
using temper::simt::Look;

#define TEMPER_SIMT_HOOKS(bytes)                                             \
  void __tsan_read##bytes(void* at) {                                        \
    Look(at, bytes, bytes, AccessKind::kRead, __builtin_return_address(0));  \
  }                                                                          \
  void __tsan_write##bytes(void* at) {                                       \
    Look(at, bytes, bytes, AccessKind::kWrite, __builtin_return_address(0)); \
  }                                                                          \
  void __tsan_unaligned_read##bytes(void* at) {                              \
    Look(at, bytes, 1, AccessKind::kRead, __builtin_return_address(0));      \
  }                                                                          \
  void __tsan_unaligned_write##bytes(void* at) {                             \
    Look(at, bytes, 1, AccessKind::kWrite, __builtin_return_address(0));     \
  }

extern "C" {
TEMPER_SIMT_HOOKS(1)
TEMPER_SIMT_HOOKS(2)
TEMPER_SIMT_HOOKS(4)
TEMPER_SIMT_HOOKS(8)
TEMPER_SIMT_HOOKS(16)
void __tsan_read_range(void* at, size_t bytes) {
  Look(at, bytes, 1, AccessKind::kRead, __builtin_return_address(0));
}
void __tsan_write_range(void* at, size_t bytes) {
  Look(at, bytes, 1, AccessKind::kWrite, __builtin_return_address(0));
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
// Where a host's object is called through its table: clang tells of it apart.
void __tsan_vptr_read(void*) {}
void __tsan_vptr_update(void*, void*) {}
}
