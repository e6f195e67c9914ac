// User ids that processes of ours become, none of them two at a time: the
// limits of a uid's processes are common, and so is what they may read.
//
// Functions without state; thread-safe.

#ifndef ENVIRONMENTS_UID_CLAIM_H_
#define ENVIRONMENTS_UID_CLAIM_H_

#include <sys/types.h>

namespace temper {

// Of sandboxes, and of the programs of registered environments.
inline constexpr uid_t kSandboxUidFirst = 20000;
inline constexpr uid_t kSandboxUidLast = 24095;
inline constexpr uid_t kCommandUidFirst = 24096;
inline constexpr uid_t kCommandUidLast = 24351;

// Claims `uid` for this process: a descriptor that holds the claim until it is
// closed, or -1 if another process holds it.
int ClaimUid(uid_t uid);

// Whether `uid` exists in our user namespace: root of a namespace of its own
// with a single uid is an ordinary user to the kernel, and is served as one.
bool IsMappedUid(uid_t uid);

}  // namespace temper

#endif  // ENVIRONMENTS_UID_CLAIM_H_
