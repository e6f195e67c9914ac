#include "kernels/cuda/simt/memory.h"

#include <cstdlib>
#include <cstring>
#include <map>

#include "kernels/base/log.h"
#include "kernels/cuda/simt/emulator.h"

// The linker's names for the section that device.h puts static shared memory
// in; null in a program whose kernels have none.
extern "C" __attribute__((weak)) unsigned char __start_temper_simt_shared[];
extern "C" __attribute__((weak)) unsigned char __stop_temper_simt_shared[];

namespace temper::simt {
namespace {

constexpr size_t kGlobalAlignment = 256;

unsigned char* shared = nullptr;
size_t shared_size = 0;

// By the address; the size.
std::map<uintptr_t, size_t>& Allocations() {
  static auto& allocations = *new std::map<uintptr_t, size_t>;
  return allocations;
}

void* Aligned(size_t alignment, size_t bytes) {
  void* memory = nullptr;
  CHECK(posix_memalign(&memory, alignment, bytes == 0 ? 1 : bytes) == 0)
      << "no memory for " << bytes << " bytes";
  std::memset(memory, kPoison, bytes);
  return memory;
}

}  // namespace

void BeginLaunch(size_t shared_bytes) {
  CHECK(shared_bytes <= kSharedBytesMax)
      << "a launch with " << shared_bytes << " bytes of shared memory; at most "
      << kSharedBytesMax;
  if (shared != nullptr && shared_bytes == shared_size) return;
  std::free(shared);
  shared = static_cast<unsigned char*>(Aligned(kSharedAlignment, shared_bytes));
  shared_size = shared_bytes;
}

void EndLaunch() {}

void PoisonShared() {
  std::memset(shared, kPoison, shared_size);
  const size_t bytes = __stop_temper_simt_shared - __start_temper_simt_shared;
  std::memset(__start_temper_simt_shared, kPoison, bytes);
}

unsigned char* DynamicShared() { return shared; }

void* AllocateGlobal(size_t bytes) {
  void* memory = Aligned(kGlobalAlignment, bytes);
  Allocations()[reinterpret_cast<uintptr_t>(memory)] = bytes;
  return memory;
}

void FreeGlobal(void* memory) {
  if (memory == nullptr) return;
  CHECK(Allocations().erase(reinterpret_cast<uintptr_t>(memory)) == 1)
      << "freed as global memory, and is no allocation of it: " << memory;
  std::free(memory);
}

}  // namespace temper::simt
