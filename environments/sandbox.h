// Sandboxes for the sessions of many episodes. A sandbox belongs to one slot of
// the supervisor; slots are fewer than episodes. A session that waits for the
// model parks its sandbox: nothing of it runs then, and its age stands still.
// The longest parked one is ended when another session needs its slot. Who
// waits for a slot is served in order of arrival.
//
// A slot that was used once has a keeper and a warm Python (slot_keeper.h): its
// next sandbox starts by a fork, in a few milliseconds, without the supervisor.

#ifndef ENVIRONMENTS_SANDBOX_H_
#define ENVIRONMENTS_SANDBOX_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "environments/keeper_link.h"
#include "environments/sandbox_supervisor.h"
#include "kernels/base/mutex.h"

namespace temper {

class SandboxPool;

// A running sandbox after its start handshake; destroying it ends all processes
// of its session and frees the slot. From the handshake on, its death is the
// candidate's doing, but while it is frozen and where its keeper is gone too:
// a keeper ends with what it forks from, which no candidate reaches. Used by
// one thread at a time; the pool must outlive it.
class Sandbox {
 public:
  ~Sandbox();
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;

  // Move all `size` bytes. DeadlineExceeded when `deadline` passes first,
  // Aborted when the sandboxed process is gone, Unavailable when its keeper is
  // too; each leaves the stream unusable, so the sandbox is to be destroyed.
  absl::Status Read(void* bytes, size_t size, SteadyTime deadline);
  absl::Status Write(const void* bytes, size_t size, SteadyTime deadline);

  // Returns the first `bytes_max` bytes of what the sandboxed process wrote on
  // its stdout since the last call, and forgets the rest. Works whatever became
  // of the process.
  std::string TakeOutput(size_t bytes_max);

  // Ends all processes of its session; it keeps its slot, for Renew.
  void End();
  // After End: bits of SessionLimit that the session ran into, as its cgroup
  // has it; 0 where none was there to tell.
  uint32_t limits_hit() const { return limits_hit_; }

  // After Aborted: the exit code of the sandboxed process, 128 and the signal's
  // number if one ended it; -1 if that is not known within kSandboxAskMax.
  int ExitCode();

 private:
  friend class SandboxPool;
  Sandbox(SandboxPool* pool, uint32_t slot);

  // Nothing of a frozen sandbox runs, nor does its life go on. False, and it is
  // to be destroyed, if it is not the idle driver alone (sandbox_freeze.h), is
  // gone, or gave no answer within kSandboxAskMax.
  bool Freeze();
  bool Thaw();
  // What to say where the stream has ended.
  absl::Status Gone();

  SandboxPool* const pool_;
  const uint32_t slot_;
  bool ended_ = false;  // all its processes, for sure
  bool holds_slot_ = true;
  int fd_ = -1;
  int output_ = -1;  // a memory file, written by the other side
  int exit_code_ = -1;
  bool asked_exit_code_ = false;
  uint32_t limits_hit_ = 0;
};

// Thread-safe.
class SandboxPool {
 public:
  // Starts and ends one sandbox, to see that it works here: FailedPrecondition
  // otherwise, with what the kernel denied and what to do. The supervisor must
  // outlive the pool.
  static absl::StatusOr<std::unique_ptr<SandboxPool>> Create(
      SandboxSupervisor* supervisor);

  // Ends parked sandboxes and all keepers. Sandboxes handed out must be gone.
  ~SandboxPool();

  // A new sandbox. Waits for a slot until `deadline` at most, after those who
  // came before, ending a parked sandbox if there is no other. Unavailable (the
  // machine's fault, to be tried again) if none came free, the start failed, or
  // the handshake took longer than kSandboxStartMax.
  absl::StatusOr<std::unique_ptr<Sandbox>> Start(SteadyTime deadline);

  // A new sandbox in the slot of `used`, which is ended first if it was not, so
  // that nobody else has the slot between them. Where it does not end in time
  // the new one is Start(deadline)'s; else fails as that does.
  absl::StatusOr<std::unique_ptr<Sandbox>> Renew(std::unique_ptr<Sandbox> used,
                                                 SteadyTime deadline);

  // Freezes `sandbox` and keeps it until Unpark(ticket), which returns it, or
  // null if it ended meanwhile: at once where it could not be frozen or
  // somebody waits. Every ticket is to be unparked.
  uint64_t Park(std::unique_ptr<Sandbox> sandbox);
  std::unique_ptr<Sandbox> Unpark(uint64_t ticket);

  // How many wait for a slot.
  size_t waiting();

  // Whether no sandbox will start again: the helper is gone, or the sandboxes
  // of all slots have been told to end for kLostFactor times what they may
  // take.
  bool lost();
  static constexpr int kLostFactor = 6;

  const SandboxSupervisor& supervisor() const { return *supervisor_; }

 private:
  friend class Sandbox;
  struct Parked {
    uint64_t ticket;
    std::unique_ptr<Sandbox> sandbox;
  };

  // One thread in TakeSlot. It is given a slot; or first a parked sandbox to
  // end, whose slot goes to whoever has waited longest.
  struct Waiter {
    std::optional<uint32_t> slot;
    std::unique_ptr<Sandbox> to_end;
    bool ending = false;  // to_end was given and is not ended yet
  };

  explicit SandboxPool(SandboxSupervisor* supervisor);

  absl::Status Launch(uint32_t slot);
  // Starts a session in the slot's keeper, whose handshake it waits for.
  absl::Status StartSession(uint32_t slot, SteadyTime deadline,
                            Sandbox* sandbox);

  absl::StatusOr<uint32_t> TakeSlot(SteadyTime deadline);
  // A sandbox in `slot`, which is the caller's until this is called.
  absl::StatusOr<std::unique_ptr<Sandbox>> StartIn(uint32_t slot);
  // Gives what is free, then what is parked, to those who wait.
  void Serve() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the slot's session, and its keeper if that did not do as it was told.
  // *limits_hit: see Sandbox; unchanged if the keeper does not say.
  absl::Status EndSession(uint32_t slot, uint32_t* limits_hit);
  // EndSession, and gives the slot back; or keeps it among unended_.
  void Release(uint32_t slot);
  // Gives back what ended after all. Lets go of the lock meanwhile.
  void CollectEnded() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  SandboxSupervisor* const supervisor_;
  // By slot; each is its holder's.
  std::vector<KeeperLink> keepers_;

  Mutex mutex_;
  CondVar served_;                                      // Serve gave something
  std::list<Waiter*> waiting_ ABSL_GUARDED_BY(mutex_);  // first come first
  std::vector<uint32_t> free_slots_ ABSL_GUARDED_BY(mutex_);
  // Told to end, in vain so far; and since when that is all slots.
  std::vector<uint32_t> unended_ ABSL_GUARDED_BY(mutex_);
  bool collecting_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<SteadyTime> all_unended_since_ ABSL_GUARDED_BY(mutex_);
  std::list<Parked> parked_ ABSL_GUARDED_BY(mutex_);  // oldest first
  uint64_t next_ticket_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace temper

#endif  // ENVIRONMENTS_SANDBOX_H_
