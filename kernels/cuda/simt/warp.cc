#include "kernels/cuda/simt/warp.h"

#include <bit>
#include <string>
#include <vector>

#include "kernels/cuda/simt/access.h"
#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/order.h"
#include "kernels/cuda/simt/report.h"

namespace temper::simt {
namespace {

constexpr uint32_t kWarps = kBlockThreadsMax / kWarpLanes;

// Of each warp, the meetings for which lanes still wait: one a mask.
std::array<std::vector<Meeting>, kWarps> open_meetings;

std::string Hex(uint32_t mask) {
  static const char kDigits[] = "0123456789abcdef";
  std::string text = "0x";
  for (int shift = 28; shift >= 0; shift -= 4) {
    text += kDigits[mask >> shift & 15];
  }
  return text;
}

const Thread& FirstOf(const Meeting& meeting) {
  return Block::Get().thread(meeting.warp * kWarpLanes +
                             std::countr_zero(meeting.came));
}

// Ends `meeting`: lanes but `self` wait and are made ready.
void Hold(const Meeting& meeting, const Thread* self, Site site) {
  Block& block = Block::Get();
  if (meeting.whole && meeting.came != kAllLanes) {
    Fail(
        "divergent operations",
        std::string(meeting.operation) +
            " needs all lanes of a warp; these came and the rest have ended: " +
            Hex(meeting.came),
        site);
  }
  meeting.combine(meeting);
  for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    if ((meeting.came >> lane & 1) == 0) continue;
    Thread& thread = block.thread(meeting.warp * kWarpLanes + lane);
    if (&thread != self) block.MakeReady(thread);
  }
}

// The open meeting that the lane is named in, or null.
Meeting* Find(std::vector<Meeting>& open, const Thread& thread,
              const char* operation, uint32_t mask, Site site) {
  for (Meeting& meeting : open) {
    if ((meeting.named & mask) == 0) continue;
    if (meeting.named != mask) {
      Fail("wrong mask",
           std::string(operation) + " of lanes " + Hex(mask) +
               ", while others of them wait in one of " + Hex(meeting.named),
           site);
    }
    if (meeting.operation != operation) {
      Fail("divergent operations",
           NameOf(thread) + " comes to " + operation +
               " while other lanes wait in " + meeting.operation,
           site);
    }
    return &meeting;
  }
  return nullptr;
}

struct ShuffleIn {
  ShuffleKind kind;
  uint64_t bits;
  uint32_t by;
  uint32_t width;
};

// As PTX defines shfl.sync: the source lane, or the lane itself.
uint32_t SourceLane(const ShuffleIn& in, uint32_t lane) {
  const uint32_t first = lane & ~(in.width - 1);
  const uint32_t last = first + in.width - 1;
  switch (in.kind) {
    case ShuffleKind::kIndex:
      return first | (in.by & (in.width - 1));
    case ShuffleKind::kUp:
      return lane >= first + in.by ? lane - in.by : lane;
    case ShuffleKind::kDown:
      return lane + in.by <= last ? lane + in.by : lane;
    case ShuffleKind::kXor:
      return (lane ^ in.by) <= last ? lane ^ in.by : lane;
  }
  return lane;
}

void CombineShuffle(const Meeting& meeting) {
  for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    if (meeting.in[lane] == nullptr) continue;
    const auto& in = *static_cast<const ShuffleIn*>(meeting.in[lane]);
    const uint32_t source = SourceLane(in, lane);
    const void* from = source < kWarpLanes ? meeting.in[source] : nullptr;
    *static_cast<uint64_t*>(meeting.out[lane]) =
        from == nullptr ? ~uint64_t{0}
                        : static_cast<const ShuffleIn*>(from)->bits;
  }
}

void CombineBallot(const Meeting& meeting) {
  uint32_t ballot = 0;
  for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    const void* in = meeting.in[lane];
    if (in != nullptr && *static_cast<const bool*>(in)) ballot |= 1u << lane;
  }
  for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    if (meeting.in[lane] != nullptr) {
      *static_cast<uint32_t*>(meeting.out[lane]) = ballot;
    }
  }
}

// Alone among a warp's operations it orders memory.
void CombineSync(const Meeting& meeting) {
  std::vector<ActorId> actors;
  for (uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    if (meeting.in[lane] == nullptr) continue;
    actors.push_back(
        ActorOf(Block::Get().thread(meeting.warp * kWarpLanes + lane)));
  }
  Order::Get().Meet(actors);
}

}  // namespace

namespace {

void MeetOf(bool whole, const char* operation, uint32_t mask, const void* in,
            void* out, void (*combine)(const Meeting&), Site site) {
  Block& block = Block::Get();
  const Thread& thread = *block.current();
  const uint32_t bit = 1u << thread.lane;
  if ((mask & bit) == 0) {
    Fail("wrong mask",
         std::string(operation) + " of lanes " + Hex(mask) + ", which lane " +
             std::to_string(thread.lane) + " calls and is none of",
         site);
  }
  std::vector<Meeting>& open = open_meetings[thread.warp];
  Meeting* meeting = Find(open, thread, operation, mask, site);
  if (meeting == nullptr) {
    open.emplace_back();
    meeting = &open.back();
    meeting->operation = operation;
    meeting->warp = thread.warp;
    meeting->named = mask;
    meeting->whole = whole;
    meeting->combine = combine;
  }
  meeting->came |= bit;
  meeting->in[thread.lane] = in;
  meeting->out[thread.lane] = out;
  if ((mask & block.alive_lanes(thread.warp) & ~meeting->came) != 0) {
    block.Wait(operation, site);
    return;
  }
  const Meeting complete = *meeting;
  *meeting = open.back();
  open.pop_back();
  Hold(complete, &thread, site);
}

}  // namespace

void Meet(const char* operation, uint32_t mask, const void* in, void* out,
          void (*combine)(const Meeting&), Site site) {
  MeetOf(false, operation, mask, in, out, combine, site);
}

void MeetWhole(const char* operation, const void* in, void* out,
               void (*combine)(const Meeting&), Site site) {
  MeetOf(true, operation, kAllLanes, in, out, combine, site);
}

uint64_t Shuffle(ShuffleKind kind, uint32_t mask, uint64_t bits, uint32_t by,
                 uint32_t width, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  if (width == 0 || width > kWarpLanes || (width & (width - 1)) != 0) {
    Fail("wrong mask",
         "a shuffle of width " + std::to_string(width) +
             ": a power of two up to 32",
         site);
  }
  const ShuffleIn in = {kind, bits, by, width};
  uint64_t out = 0;
  Meet("a shuffle", mask, &in, &out, &CombineShuffle, site);
  return out;
}

uint32_t Ballot(uint32_t mask, bool predicate, Where where) {
  const InEmulator in_emulator;
  uint32_t out = 0;
  Meet("a vote", mask, &predicate, &out, &CombineBallot, Site::OfCall(where));
  return out;
}

void SyncWarp(uint32_t mask, Where where) {
  const InEmulator in_emulator;
  const bool present = true;
  Meet("__syncwarp", mask, &present, nullptr, &CombineSync,
       Site::OfCall(where));
}

void BeginWarps() {
  for (auto& open : open_meetings) open.clear();
}

void EndThreadOfWarp(const Thread& thread) {
  std::vector<Meeting>& open = open_meetings[thread.warp];
  const uint32_t alive = Block::Get().alive_lanes(thread.warp);
  for (size_t i = 0; i < open.size();) {
    if ((open[i].named & alive & ~open[i].came) != 0) {
      ++i;
      continue;
    }
    const Meeting complete = open[i];
    open[i] = open.back();
    open.pop_back();
    Hold(complete, nullptr, FirstOf(complete).site);
  }
}

}  // namespace temper::simt
