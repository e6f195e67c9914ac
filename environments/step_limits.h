// How long a Step of a Python session, or a Grade of code, may take, each limit
// and their sum, so that a caller's deadline is above it: what a candidate's
// code does can fill every limit and still ends as an outcome of its own, never
// as a deadline of the machine's (promise P5).
//
// A session takes a sandbox's slot once in a Step and keeps it to the Step's
// end (python_session.h); slots are given out first come, first served
// (sandbox.h). So with at most kStepsPerSlotMax Steps at a time for each slot,
// a Step waits for kStepsPerSlotMax - 1 others. Above that, and where the
// machine is too slow to start or end a sandbox in time, the Step may end as
// Unavailable.

#ifndef ENVIRONMENTS_STEP_LIMITS_H_
#define ENVIRONMENTS_STEP_LIMITS_H_

#include <algorithm>
#include <chrono>

namespace temper {

// Of the machine: from a slot to the handshake of its sandbox, from the order
// to end it to its last process, and from a question to who keeps it (frozen?
// thawed? how did it end?) to the answer.
inline constexpr std::chrono::milliseconds kSandboxStartMax{10'000};
inline constexpr std::chrono::milliseconds kSandboxEndMax{10'000};
inline constexpr std::chrono::milliseconds kSandboxAskMax{5'000};

// Of the candidate: the wall time of a cell, and of all the cells of a session
// when they ran first.
inline constexpr std::chrono::milliseconds kCellMax{5'000};
inline constexpr std::chrono::milliseconds kSessionMax{20'000};

// Of cells run again: kReplayFactor times what they took at first and kCellMax,
// but no more than kReplayMax.
inline constexpr int kReplayFactor = 4;
inline constexpr std::chrono::milliseconds kReplayMax{25'000};

// Of code that is graded in fresh sandboxes (fresh_runs.h): the wall time of
// one run, of a compilation, of all with their ends, and how many; and of the
// machine for all starts but the first. A compilation takes a second or two of
// a CPU; a right program must compile on a busy machine too.
inline constexpr std::chrono::milliseconds kRunMax{5'000};
inline constexpr std::chrono::milliseconds kCompileMax{40'000};
inline constexpr std::chrono::milliseconds kRunsMax{50'000};
inline constexpr int kRunCountMax = 128;
inline constexpr std::chrono::milliseconds kStartsMax{15'000};

// The longest that one Step of a session keeps a slot, with a question at
// either end: what cells took at first, t, is gone from kSessionMax, so they
// can take kReplayMax again at the earliest where kReplayFactor * t + kCellMax
// is that. And the longest that fresh runs keep one.
inline constexpr std::chrono::milliseconds kSessionHoldMax =
    kSandboxStartMax + kReplayMax +
    (kSessionMax - (kReplayMax - kCellMax) / kReplayFactor) + kSandboxEndMax +
    2 * kSandboxAskMax;
inline constexpr std::chrono::milliseconds kFreshRunsHoldMax =
    kSandboxStartMax + kRunsMax + kStartsMax + 2 * kSandboxEndMax;
inline constexpr std::chrono::milliseconds kSlotHoldMax =
    std::max(kSessionHoldMax, kFreshRunsHoldMax);

inline constexpr int kStepsPerSlotMax = 9;
inline constexpr std::chrono::milliseconds kSlotWaitMax =
    (kStepsPerSlotMax - 1) * kSlotHoldMax;

// The deadline of who asks for a Step, or for a Grade: a minute for what no
// limit above names (threads to get a turn, bytes to travel).
inline constexpr std::chrono::seconds kStepMax{930};

static_assert(kReplayFactor >= 1 && kReplayMax >= kCellMax &&
                  (kReplayMax - kCellMax) / kReplayFactor <= kSessionMax,
              "kSessionHoldMax is the largest only so");
static_assert(kSlotWaitMax + kSlotHoldMax + std::chrono::minutes(1) <= kStepMax,
              "a Step that keeps its limits must end before its deadline");

}  // namespace temper

#endif  // ENVIRONMENTS_STEP_LIMITS_H_
