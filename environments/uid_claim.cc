#include "environments/uid_claim.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <fstream>

namespace temper {

// A name in the abstract socket namespace, which goes with the process.
int ClaimUid(uid_t uid) {
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const int length =
      snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1,
               "temper-sandbox-uid-%u", uid);
  const socklen_t size = static_cast<socklen_t>(
      offsetof(struct sockaddr_un, sun_path) + 1 + length);
  if (bind(fd, reinterpret_cast<struct sockaddr*>(&address), size) == 0) {
    return fd;
  }
  close(fd);
  return -1;
}

bool IsMappedUid(uid_t uid) {
  std::ifstream map("/proc/self/uid_map");
  uint64_t first, outside, count;
  while (map >> first >> outside >> count) {
    if (uid >= first && uid - first < count) return true;
  }
  return false;
}

}  // namespace temper
