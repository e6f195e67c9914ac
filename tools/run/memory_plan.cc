#include "tools/run/memory_plan.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/log.h"
#include "kernels/model/gradients.h"
#include "kernels/model/kv_cache.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/published_weights.h"
#include "kernels/model/transformer.h"
#include "learner/intake/weight_publisher.h"
#include "learner/train/optimizer.h"
#include "learner/train/token_logprob.h"
#include "learner/train/train_step_options.h"
#include "proto/wire/run_numerics.h"
#include "tools/run/engine_size.h"

namespace temper {
namespace {

double Mebibytes(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

using Parts = std::vector<std::pair<std::string, int64_t>>;

// What a process asks its backend for, and what is the host's whatever that is.
void Place(const RunConfig& config, const Parts& backend, const Parts& host,
           ProcessMemory* process) {
  if (config.device() == RunConfig::cuda) {
    process->gpu_parts = backend;
    process->gpu_parts.emplace_back("process", kGpuProcessBytes);
  } else {
    process->parts = backend;
  }
  process->parts.insert(process->parts.end(), host.begin(), host.end());
  process->parts.emplace_back("process", kProcessBytes);
}

// A GPU's weight is one matrix, read either way.
Passes PackedPasses(const RunConfig& config) {
  return config.device() == RunConfig::cuda ? Passes::kForward
                                            : Passes::kForwardAndBackward;
}

ProcessMemory Learner(const RunConfig& config, const ModelConfig& model) {
  const auto step = MakeTrainStepOptions(config);
  CHECK(step.ok()) << step.status();
  const int64_t rows = step->tokens_max;
  const Numerics numerics = NumericsOf(config);
  const int64_t masters = MasterWeights::BytesFor(model);
  const int64_t published = PublishedWeights::BytesFor(model, numerics);
  Parts backend = {
      // What is published in fp32 is the masters' own memory.
      {"weights",
       masters + published - PublishedWeights::Fp32BytesFor(model, numerics)},
      {"packings", PublishedWeights::PackingBytesFor(model, numerics,
                                                     PackedPasses(config))},
      {"gradients", ModelGradients::BytesFor(model)},
      {"optimizer", Optimizer::BytesFor(model)},
      {"activations", Transformer::TrainingBytes(model, numerics, rows)},
      {"log-probabilities", TokenLogProb::BytesFor(model, rows)}};
  if (step->NeedsReference()) {
    backend.emplace_back(
        "reference", published +
                         PublishedWeights::PackingBytesFor(model, numerics,
                                                           Passes::kForward) +
                         Transformer::BorrowedTapeBytes(model, rows));
  }
  ProcessMemory learner;
  learner.name = "learner";
  // The kept versions, and the next before the oldest goes.
  Place(config, backend,
        {{"publication", (WeightPublisher::kVersionsKept + 1) * published}},
        &learner);
  return learner;
}

ProcessMemory Worker(const RunConfig& config, const ModelConfig& model,
                     int64_t prompt_tokens, bool open_steps) {
  const EngineDemand demand = WorkerDemand(config, prompt_tokens, open_steps);
  const EngineOptions engine = SizeEngine(demand, model);
  const Numerics numerics = NumericsOf(config);
  const int64_t cache = KvCache::BytesFor(model, numerics, engine.pages);
  const int64_t published = PublishedWeights::BytesFor(model, numerics);
  ProcessMemory worker;
  worker.name = "each worker";
  worker.processes = config.workers();
  // One whole version until the engine takes it, and the next on its way.
  Parts host = {{"new weights", 2 * published}};
  if (open_steps) {
    host.emplace_back("open episodes",
                      (demand.open - demand.samples) * kOpenEpisodeBytes);
  }
  Place(config,
        {{"weights", published},
         {"packings",
          PublishedWeights::PackingBytesFor(model, numerics, Passes::kForward)},
         {"KV cache", cache},
         {"activations", Engine::BytesFor(model, numerics, engine) - cache}},
        host, &worker);
  return worker;
}

int64_t Sum(const Parts& parts) {
  int64_t sum = 0;
  for (const auto& [name, part] : parts) sum += part;
  return sum;
}

std::string Total(int64_t bytes, int64_t there, const char* where) {
  const std::string total = absl::StrFormat("about %.0f MiB", Mebibytes(bytes));
  if (there == 0) return total;
  return absl::StrCat(
      total, absl::StrFormat(" of the %.0f MiB %s", Mebibytes(there), where));
}

std::string Listed(int64_t bytes, const Parts& parts) {
  std::vector<std::string> words;
  for (const auto& [name, part] : parts) {
    words.push_back(absl::StrFormat("%s %.0f", name, Mebibytes(part)));
  }
  return absl::StrFormat("%.0f MiB: %s", Mebibytes(bytes),
                         absl::StrJoin(words, ", "));
}

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

// The number behind `label` in a file of lines "label number ...".
std::optional<int64_t> ReadLabelled(const std::string& path,
                                    const std::string& label) {
  std::ifstream file(path);
  std::string word;
  int64_t number = 0;
  while (file >> word >> number) {
    if (word == label) return number;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return std::nullopt;
}

// What processes may still take of a control group's limit. Its page cache is
// not counted as taken: the system gives that back.
int64_t LeftInGroup(const std::string& limit_path, const std::string& stat_path,
                    const std::string& taken_label) {
  std::ifstream file(limit_path);
  int64_t limit = 0;
  if (!(file >> limit)) return kUnlimited;  // no such file, or "max"
  const int64_t taken = ReadLabelled(stat_path, taken_label).value_or(0);
  return std::max<int64_t>(0, limit - taken);
}

}  // namespace

int64_t ProcessMemory::bytes() const { return Sum(parts); }
int64_t ProcessMemory::gpu_bytes() const { return Sum(gpu_parts); }

int64_t MemoryPlan::bytes() const {
  int64_t sum = 0;
  for (const ProcessMemory& process : processes) {
    sum += process.processes * process.bytes();
  }
  return sum;
}

int64_t MemoryPlan::gpu_bytes() const {
  int64_t sum = 0;
  for (const ProcessMemory& process : processes) {
    sum += process.processes * process.gpu_bytes();
  }
  return sum;
}

MemoryPlan PlanMemory(const RunConfig& config, const ModelConfig& model,
                      int64_t prompt_tokens, bool open_steps) {
  return {{Learner(config, model),
           Worker(config, model, prompt_tokens, open_steps)}};
}

int64_t AvailableMemoryBytes() {
  const int64_t kib =
      ReadLabelled("/proc/meminfo", "MemAvailable:").value_or(0);
  // A container sees the machine's memory in /proc/meminfo, and is killed by
  // its group's limit.
  const std::string v2 = "/sys/fs/cgroup", v1 = "/sys/fs/cgroup/memory";
  return std::min({kib << 10,
                   LeftInGroup(v2 + "/memory.max", v2 + "/memory.stat", "anon"),
                   LeftInGroup(v1 + "/memory.limit_in_bytes",
                               v1 + "/memory.stat", "total_rss")});
}

std::vector<std::pair<std::string, std::string>> DescribeMemory(
    const MemoryPlan& plan, const MemoryThere& there) {
  std::vector<std::pair<std::string, std::string>> lines = {
      {"memory", Total(plan.bytes(), there.bytes, "available here")}};
  for (const ProcessMemory& process : plan.processes) {
    lines.emplace_back(absl::StrCat("  ", process.name),
                       Listed(process.bytes(), process.parts));
  }
  if (plan.gpu_bytes() == 0) return lines;
  lines.emplace_back("GPU memory",
                     Total(plan.gpu_bytes(), there.gpu_bytes, "of the GPU"));
  for (const ProcessMemory& process : plan.processes) {
    lines.emplace_back(absl::StrCat("  ", process.name),
                       Listed(process.gpu_bytes(), process.gpu_parts));
  }
  return lines;
}

std::string MemoryWarning(const MemoryPlan& plan, const MemoryThere& there) {
  const bool gpu = there.gpu_bytes > 0 && plan.gpu_bytes() > there.gpu_bytes;
  // Only a warning: swap and shared pages may well make it fit.
  const bool host = there.bytes > 0 && plan.bytes() > there.bytes;
  if (!gpu && !host) return "";
  const std::string next = gpu ? "a process of the run will find none left"
                               : "the system may kill a process of the run";
  return absl::StrFormat(
      "the plan takes %.0f MiB of %s and %.0f MiB are %s: %s. Lower workers, "
      "prompts_per_step, group_size or max_tokens, shorten the longest "
      "prompts, take a smaller model, or end what else runs here",
      Mebibytes(gpu ? plan.gpu_bytes() : plan.bytes()),
      gpu ? "the GPU's memory" : "memory",
      Mebibytes(gpu ? there.gpu_bytes : there.bytes), gpu ? "all" : "available",
      next);
}

}  // namespace temper
