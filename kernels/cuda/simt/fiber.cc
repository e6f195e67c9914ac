#include "kernels/cuda/simt/fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include "kernels/base/log.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves what the ABI says a call keeps, changes stacks, and takes up what was
// saved there. The word above the registers is where it returns to.
extern "C" void temper_simt_switch(void** from_top, void* to_top);
asm(R"(
.text
.globl temper_simt_switch
.type temper_simt_switch, @function
temper_simt_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size temper_simt_switch, .-temper_simt_switch
)");

namespace temper::simt {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr int kSavedRegisters = 6;

// Whose stack is being switched to.
Fiber* arriving = nullptr;

#ifdef __SANITIZE_ADDRESS__
// AddressSanitizer wants to be told the bounds of the stack it gets.
struct Bounds {
  uintptr_t low;
  size_t bytes;
};

Bounds OsStack() {
  static const Bounds bounds = [] {
    pthread_attr_t attributes;
    void* low = nullptr;
    size_t bytes = 0;
    CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0);
    CHECK(pthread_attr_getstack(&attributes, &low, &bytes) == 0);
    pthread_attr_destroy(&attributes);
    return Bounds{reinterpret_cast<uintptr_t>(low), bytes};
  }();
  return bounds;
}
#endif

}  // namespace

Fiber::Fiber(void (*entry)()) : entry_(entry) {
  void* memory = mmap(nullptr, kStackBytes + kPageBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(memory != MAP_FAILED) << "no memory for a stack of " << kStackBytes;
  // An overflow ends the program instead of changing a neighbour's stack.
  CHECK(mprotect(memory, kPageBytes, PROT_NONE) == 0);
  low_ = reinterpret_cast<uintptr_t>(memory) + kPageBytes;
  Restart();
}

Fiber::~Fiber() {
  if (low_ == 0) return;
  munmap(reinterpret_cast<void*>(low_ - kPageBytes), kStackBytes + kPageBytes);
}

void Fiber::Restart() {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(reinterpret_cast<void*>(low_), kStackBytes);
#endif
  // From the top, as a call would leave it: no address to return to, then what
  // the switch takes: the entry, and the registers.
  void** top = reinterpret_cast<void**>(low_ + kStackBytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Begin);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  top_ = top;
}

void Fiber::Switch(Fiber& from, Fiber& to) {
  arriving = &to;
#ifdef __SANITIZE_ADDRESS__
  const Bounds bounds = to.low_ == 0 ? OsStack() : Bounds{to.low_, kStackBytes};
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(
      &fake_stack, reinterpret_cast<void*>(bounds.low), bounds.bytes);
#endif
  temper_simt_switch(&from.top_, to.top_);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void Fiber::Begin() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  arriving->entry_();
  CHECK(false) << "a fiber's entry has returned";
}

}  // namespace temper::simt
