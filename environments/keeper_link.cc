#include "environments/keeper_link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "environments/fd_message.h"
#include "environments/text.h"
#include "kernels/base/status_macros.h"

namespace temper {

absl::Status WaitForFd(int fd, short events, SteadyTime deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      return absl::DeadlineExceededError("the sandbox took too long");
    }
    struct pollfd waiting = {fd, events, 0};
    const int timeout =
        static_cast<int>(std::min<int64_t>(left.count(), 60'000));
    const int ready = poll(&waiting, 1, timeout);
    // What poll found (an end, an error) the call after it will say.
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) {
      return absl::AbortedError(absl::StrCat("poll: ", strerror(errno)));
    }
  }
}

KeeperLink::~KeeperLink() {
  Close();
  TakeErrors();
}

absl::StatusOr<SandboxFds> KeeperLink::Open() {
  Close();
  TakeErrors();
  int control[2] = {-1, -1};
  int errors[2] = {-1, -1};
  // Nobody waits at errors' reading end for what may never be said.
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0 ||
      pipe2(errors, O_CLOEXEC | O_NONBLOCK) != 0) {
    const absl::Status status = absl::UnavailableError(
        absl::StrCat("the descriptors of a sandbox: ", strerror(errno)));
    for (int fd : control) {
      if (fd >= 0) close(fd);
    }
    return status;
  }
  control_ = control[0];
  errors_ = errors[0];
  return SandboxFds{errors[1], control[1]};
}

void KeeperLink::Close() {
  // What was said is still to be had.
  if (control_ >= 0) close(control_);
  control_ = -1;
}

std::optional<KeeperReply> KeeperLink::Hear(SteadyTime deadline) {
  KeeperReply reply;
  while (is_open()) {
    if (!WaitForFd(control_, POLLIN, deadline).ok()) break;
    const ssize_t size = recv(control_, &reply, sizeof(reply), MSG_DONTWAIT);
    if (size == sizeof(reply)) return reply;
    if (size >= 0 || (errno != EAGAIN && errno != EINTR)) Close();
  }
  return std::nullopt;
}

std::optional<KeeperReply> KeeperLink::Ask(KeeperRequest request,
                                           const SessionFds* fds,
                                           SteadyTime deadline,
                                           int* exit_code) {
  const char byte = request;
  if (is_open() &&
      SendWithFds(control_, &byte, 1, fds, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) {
    while (const std::optional<KeeperReply> reply = Hear(deadline)) {
      if (reply->kind != KeeperReply::kEnded) return reply;
      *exit_code = reply->exit_code;
    }
  }
  // An answer that comes late would be taken for the next one's.
  Close();
  return std::nullopt;
}

std::string KeeperLink::TakeErrors() {
  const int fd = std::exchange(errors_, -1);
  if (fd < 0) return "";
  char text[1000];
  const ssize_t size = read(fd, text, sizeof(text));
  close(fd);
  // Not read to its end: a child of bubblewrap's may still hold it open.
  if (size <= 0) return "it ended without a word";
  return TrimBlanks(SanitizeText(std::string(text, size), sizeof(text)));
}

}  // namespace temper
