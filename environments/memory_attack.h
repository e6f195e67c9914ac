// For tests: a cell that takes all the memory it can.

#ifndef ENVIRONMENTS_MEMORY_ATTACK_H_
#define ENVIRONMENTS_MEMORY_ATTACK_H_

#include <string>

#include "absl/strings/str_cat.h"

namespace temper {

// Fills files, memory files, pipes and children of `child_mib` MiB each, as
// many as it gets, and prints how many MiB it held, or is killed.
inline std::string TakeMemory(int child_mib) {
  return absl::StrCat(R"(
import os, time
held, keep, children, block = 0, [], [], b'x' * (1 << 20)
def fill(fd):
  total = 0
  try:
    while total < 64 << 20: total += os.write(fd, block)
  except OSError: pass
  return total
for path in ('/tmp/t', '/dev/shm/s'):  # of other names: they may be one place
  for i in range(4):
    try: keep.append(os.open(path + '%d' % i, os.O_CREAT | os.O_RDWR))
    except OSError: break
    held += fill(keep[-1])
for i in range(8):
  try: keep.append(os.memfd_create('m'))
  except OSError: break
  held += fill(keep[-1])
for i in range(8):
  try: keep += os.pipe()
  except OSError: break
  os.set_blocking(keep[-1], False)
  held += fill(keep[-1])
size = )",
                      child_mib, R"( << 20
while len(children) < 12:
  r, w = os.pipe()
  try: pid = os.fork()
  except OSError: break
  if pid == 0:
    mine = b'x' * size
    os.write(w, b'y')
    time.sleep(1000)
  os.close(w)
  children.append(pid)
  if os.read(r, 1) != b'y': break
  os.close(r)
for pid in children:
  if os.waitpid(pid, os.WNOHANG) == (0, 0): held += size
os.truncate('/tmp/t0', 0)  # room for the output
held >> 20)");
}

}  // namespace temper

#endif  // ENVIRONMENTS_MEMORY_ATTACK_H_
