#include "kernels/cuda/simt/copy.h"

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cuda/simt/access.h"
#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/memory.h"
#include "kernels/cuda/simt/report.h"
#include "kernels/cuda/simt/shadow.h"

namespace temper::simt {
namespace {

struct Copy {
  unsigned char* to;
  const unsigned char* from;
  uint32_t bytes;
  uint32_t source_bytes;
  size_t at;  // in shared memory
  Site site;
  uint32_t group;
};

// Of a thread, by rank; oldest first.
struct Copies {
  std::vector<Copy> begun;
  uint32_t group = 0;  // of the copies that come next
};
std::array<Copies, kBlockThreadsMax> copies_of;

Copies& Mine() { return copies_of[Block::Get().current()->rank]; }

Access WriteOf(const Copy& copy) {
  Access access;
  access.write = true;
  access.actor = access.asker = ActorOf(*Block::Get().current());
  access.site = copy.site;
  return access;
}

}  // namespace

void BeginCopy(void* shared, const void* global, uint32_t bytes,
               uint32_t source_bytes, Where where) {
  const InEmulator in_emulator;
  Copy copy;
  copy.to = static_cast<unsigned char*>(shared);
  copy.from = static_cast<const unsigned char*>(global);
  copy.bytes = bytes;
  copy.source_bytes = source_bytes;
  copy.site = Site::OfCall(where);
  copy.group = Mine().group;
  if (source_bytes > bytes) {
    Fail("out of bounds",
         "a copy of " + std::to_string(bytes) + " bytes of which " +
             std::to_string(source_bytes) + " come from its source",
         copy.site);
  }
  copy.at = CheckShared(shared, bytes, bytes, copy.site);
  if (source_bytes > 0) {
    CheckGlobal(global, source_bytes, bytes, copy.site);
  }
  Shadow::Get().BeginWrite(copy.at, bytes, WriteOf(copy));
  std::memset(shared, kPoison, bytes);
  Mine().begun.push_back(copy);
}

void CommitCopies() { ++Mine().group; }

void WaitCopies(uint32_t pending, bool all) {
  const InEmulator in_emulator;
  Copies& mine = Mine();
  std::vector<Copy> left;
  for (const Copy& copy : mine.begun) {
    if (!all && copy.group + pending >= mine.group) {
      left.push_back(copy);
      continue;
    }
    std::memset(copy.to, 0, copy.bytes);
    if (copy.source_bytes > 0) {
      std::memcpy(copy.to, copy.from, copy.source_bytes);
    }
    Shadow::Get().EndWrite(copy.at, copy.bytes, WriteOf(copy));
  }
  mine.begun = std::move(left);
}

void BeginCopies() {
  for (uint32_t rank = 0; rank < Block::Get().thread_count(); ++rank) {
    copies_of[rank].begun.clear();
    copies_of[rank].group = 0;
  }
}

}  // namespace temper::simt
