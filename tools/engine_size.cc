#include "tools/engine_size.h"

#include <algorithm>

namespace temper {
namespace {

constexpr int64_t kSamplesMax = 256;
constexpr int64_t kSharedPages = 64;  // preambles and prompts

}  // namespace

EngineOptions SizeEngine(int64_t samples, int64_t max_tokens) {
  const int64_t at_once = std::clamp<int64_t>(samples, 1, kSamplesMax);
  const int64_t pages_each = 2 * max_tokens / kPageTokens + 2;
  EngineOptions options;
  options.sequences_max = at_once;
  options.sample_rows_max = at_once;
  options.pages = static_cast<int32_t>(at_once * pages_each + kSharedPages);
  return options;
}

int64_t WorkerSamples(const RunConfig& config) {
  const int64_t prompts = config.objective().prompts_per_step();
  const int64_t workers = config.workers();
  const int64_t groups = (prompts + workers - 1) / workers;
  return std::min(kSamplesMax, groups * config.objective().group_size());
}

}  // namespace temper
