// What memory a run will take, before it starts: from the sizes that its
// processes will ask their backend for, and the weight versions on their way to
// workers. Bookkeeping, messages and the pieces that files are written in come
// on top; kProcessBytes stands for them. With a GPU, which learner and workers
// share, what they ask their backend for is its memory, the rest the machine's.
//
// Functions without state; thread-safe.

#ifndef TOOLS_RUN_MEMORY_PLAN_H_
#define TOOLS_RUN_MEMORY_PLAN_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/model/config.h"
#include "proto/config.pb.h"

namespace temper {

// One kind of process and how many of it run; parts in bytes.
struct ProcessMemory {
  std::string name;  // "learner", "each worker"
  int64_t processes = 1;
  std::vector<std::pair<std::string, int64_t>> parts;
  std::vector<std::pair<std::string, int64_t>> gpu_parts = {};

  int64_t bytes() const;  // of one process, without the GPU's
  int64_t gpu_bytes() const;
};

struct MemoryPlan {
  std::vector<ProcessMemory> processes;

  int64_t bytes() const;  // of all of them
  int64_t gpu_bytes() const;
};

// Program, libraries, threads and buffers of one process, measured on small
// runs.
inline constexpr int64_t kProcessBytes = 48 << 20;

// What CUDA takes of the GPU for a process's kernels, and the scratch of its
// operations. An estimate: no process of ours ran on a GPU yet.
inline constexpr int64_t kGpuProcessBytes = 1 << 30;

// Of an episode in a Step that stays open, outside the cache: twice what short
// ones take (tests/open_episodes_test.cc).
inline constexpr int64_t kOpenEpisodeBytes = 64 << 10;

// `config` is resolved (a choice that is none is CHECKed), `prompt_tokens`
// those of the longest prompt, `open_steps` whether an environment has Steps
// that stay open. Sandboxes are not in it: they have limits of their own
// (environments/sandbox_policy.h).
MemoryPlan PlanMemory(const RunConfig& config, const ModelConfig& model,
                      int64_t prompt_tokens, bool open_steps);

// What this machine, or the control group around this process, has left for
// new processes without swapping; 0 if the system does not say.
int64_t AvailableMemoryBytes();

// What there is for it; 0: not known.
struct MemoryThere {
  int64_t bytes = 0;
  int64_t gpu_bytes = 0;
};

// "learner", "600 MiB: weights 24, ...": for FormatPlan, then the total; what
// is the GPU's behind it.
std::vector<std::pair<std::string, std::string>> DescribeMemory(
    const MemoryPlan& plan, const MemoryThere& there);

// What to tell the user where the plan exceeds what is there, else "".
std::string MemoryWarning(const MemoryPlan& plan, const MemoryThere& there);

}  // namespace temper

#endif  // TOOLS_RUN_MEMORY_PLAN_H_
