// One message of a SOCK_SEQPACKET socket that brings descriptors along.

#ifndef ENVIRONMENTS_FD_MESSAGE_H_
#define ENVIRONMENTS_FD_MESSAGE_H_

#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>

namespace temper {

// sendmsg of `size` bytes with the descriptors that `fds` is made of, unless it
// is null, and the `flags`: returns what that does. Thread-safe.
template <typename Fds>
ssize_t SendWithFds(int socket, const void* data, size_t size, const Fds* fds,
                    int flags) {
  static_assert(sizeof(Fds) == 2 * sizeof(int));
  struct iovec part = {const_cast<void*>(data), size};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(Fds))] = {};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fds != nullptr) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(Fds));
    memcpy(CMSG_DATA(header), fds, sizeof(Fds));
  }
  return sendmsg(socket, &message, flags);
}

}  // namespace temper

#endif  // ENVIRONMENTS_FD_MESSAGE_H_
