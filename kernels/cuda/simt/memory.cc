#include "kernels/cuda/simt/memory.h"

#include <link.h>

#include <cstdlib>
#include <cstring>
#include <map>

#include "kernels/base/log.h"
#include "kernels/cuda/simt/emulator.h"
#include "kernels/cuda/simt/shadow.h"

namespace temper::simt {
namespace {

constexpr size_t kGlobalAlignment = 256;

unsigned char* shared = nullptr;
size_t shared_size = 0;
Region static_shared;

// The thread-local memory of the program itself: of its first segment, as the
// calling OS thread has it.
Region ThreadLocalRegion() {
  Region region;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* result) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          if (info->dlpi_phdr[i].p_type != PT_TLS) continue;
          *static_cast<Region*>(result) = {
              reinterpret_cast<uintptr_t>(info->dlpi_tls_data),
              info->dlpi_phdr[i].p_memsz};
        }
        return 1;  // the program comes first
      },
      &region);
  return region;
}

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
  static_shared = ThreadLocalRegion();
  if (shared != nullptr && shared_bytes == shared_size) return;
  std::free(shared);
  shared = static_cast<unsigned char*>(Aligned(kSharedAlignment, shared_bytes));
  shared_size = shared_bytes;
}

void BeginMemory() {
  std::memset(shared, kPoison, shared_size);
  const size_t bytes = SharedOffset(DynamicRegion().low) + shared_size;
  Shadow::Get().BeginBlock((bytes + 3) / 4);
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

Region AllocationAt(uintptr_t at) {
  const auto& allocations = Allocations();
  auto after = allocations.upper_bound(at);
  if (after == allocations.begin()) return {};
  --after;
  return {after->first, after->second};
}

Region DynamicRegion() {
  return {reinterpret_cast<uintptr_t>(shared), shared_size};
}

Region StaticRegion() { return static_shared; }

size_t SharedOffset(uintptr_t at) {
  const Region fixed = StaticRegion();
  if (fixed.Holds(at, 1)) return at - fixed.low + fixed.low % 4;
  // From a whole word on, for shadows are of words.
  return at - DynamicRegion().low + (fixed.bytes + 7) / 4 * 4;
}

}  // namespace temper::simt
