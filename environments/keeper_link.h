// The owner's end of what it and the keeper of a slot say to each other
// (sandbox_keeper.h). Used by one thread at a time, whoever has the slot.

#ifndef ENVIRONMENTS_KEEPER_LINK_H_
#define ENVIRONMENTS_KEEPER_LINK_H_

#include <chrono>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "environments/sandbox_keeper.h"

namespace temper {

// Deadlines are of this clock.
using SteadyTime = std::chrono::steady_clock::time_point;

// Waits until `events` (of poll) may go on with `fd`. DeadlineExceeded, or
// Aborted if it cannot be waited for.
absl::Status WaitForFd(int fd, short events, SteadyTime deadline);

class KeeperLink {
 public:
  KeeperLink() = default;
  ~KeeperLink();
  KeeperLink(const KeeperLink&) = delete;
  KeeperLink& operator=(const KeeperLink&) = delete;

  // Makes a link and returns the ends to launch a keeper with, for the caller
  // to close. Unavailable if there are no descriptors.
  absl::StatusOr<SandboxFds> Open();
  bool is_open() const { return control_ >= 0; }
  // Lets go of the keeper, which ends all that it keeps.
  void Close();

  // The keeper's reply to `request`, which has `fds` if it is kStart. If the
  // session's end is told before, its exit code goes to *exit_code. None: there
  // is no keeper any more, or it gave no answer by `deadline`; the link is
  // closed then.
  std::optional<KeeperReply> Ask(KeeperRequest request, const SessionFds* fds,
                                 SteadyTime deadline, int* exit_code);
  // The keeper's next word; none as above, but a late one leaves the link open.
  std::optional<KeeperReply> Hear(SteadyTime deadline);

  // What bubblewrap or Python said since Open, for a person; once.
  std::string TakeErrors();

 private:
  int control_ = -1;
  int errors_ = -1;
};

}  // namespace temper

#endif  // ENVIRONMENTS_KEEPER_LINK_H_
