#include "tools/memory_plan.h"

#include <algorithm>
#include <fstream>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/model/kv_cache.h"
#include "kernels/model/transformer.h"
#include "kernels/model/weights.h"
#include "learner/optimizer.h"
#include "learner/train_step.h"
#include "tools/engine_size.h"

namespace temper {
namespace {

double Mebibytes(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

bool HasReference(const RunConfig& config) {
  TrainStepOptions options;
  options.kl_coef = config.objective().kl_coef();
  for (const DomainConfig& domain : config.domain()) {
    options.domain_kl_coef[domain.domain_name()] = domain.domain_kl_coef();
  }
  return options.NeedsReference();
}

ProcessMemory Learner(const RunConfig& config, const ModelConfig& model,
                      int64_t values) {
  const int64_t rows = TrainStepOptions().tokens_max;
  ProcessMemory learner;
  learner.name = "learner";
  learner.parts = {{"weights", values},
                   {"packings", 2 * values},
                   {"gradients", values},
                   {"optimizer", Optimizer::BytesFor(model)},
                   {"activations", Transformer::TrainingBytes(model, rows)},
                   {"publication", 2 * values}};
  if (HasReference(config)) {
    learner.parts.push_back(
        {"reference", 3 * values + Transformer::InferenceBytes(model, rows)});
  }
  learner.parts.push_back({"process", kProcessBytes});
  return learner;
}

ProcessMemory Worker(const RunConfig& config, const ModelConfig& model,
                     int64_t values) {
  const EngineOptions engine =
      SizeEngine(WorkerSamples(config), config.sampling().max_tokens());
  const int64_t cache = KvCache::BytesFor(model, engine.pages);
  ProcessMemory worker;
  worker.name = "each worker";
  worker.processes = config.workers();
  worker.parts = {{"weights", values},
                  {"packings", 2 * values},
                  {"KV cache", cache},
                  {"activations", Engine::BytesFor(model, engine) - cache},
                  {"new weights", 2 * values},
                  {"process", kProcessBytes}};
  return worker;
}

// The first number in `path`; nothing where there is none ("max").
bool ReadNumber(const std::string& path, int64_t* number) {
  std::ifstream file(path);
  return static_cast<bool>(file >> *number);
}

// What is left of a control group's limit, in either version's files.
int64_t LeftInGroup(const std::string& limit_path,
                    const std::string& usage_path) {
  int64_t limit = 0, usage = 0;
  if (!ReadNumber(limit_path, &limit) || !ReadNumber(usage_path, &usage)) {
    return std::numeric_limits<int64_t>::max();
  }
  return std::max<int64_t>(0, limit - usage);
}

}  // namespace

int64_t ProcessMemory::bytes() const {
  int64_t sum = 0;
  for (const auto& [name, part] : parts) sum += part;
  return sum;
}

int64_t MemoryPlan::bytes() const {
  int64_t sum = 0;
  for (const ProcessMemory& process : processes) {
    sum += process.processes * process.bytes();
  }
  return sum;
}

MemoryPlan PlanMemory(const RunConfig& config, const ModelConfig& model) {
  int64_t elements = 0;
  for (const Parameter& parameter : ListParameters(model)) {
    elements += parameter.elements;
  }
  const int64_t values = elements * static_cast<int64_t>(sizeof(float));
  return {{Learner(config, model, values), Worker(config, model, values)}};
}

int64_t AvailableMemoryBytes() {
  std::ifstream file("/proc/meminfo");
  std::string label;
  int64_t kib = 0, available = 0;
  // Lines are "MemAvailable:   12345 kB".
  while (available == 0 && file >> label >> kib) {
    if (label == "MemAvailable:") available = kib << 10;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  const std::string root = "/sys/fs/cgroup";
  return std::min({available,
                   LeftInGroup(root + "/memory.max", root + "/memory.current"),
                   LeftInGroup(root + "/memory/memory.limit_in_bytes",
                               root + "/memory/memory.usage_in_bytes")});
}

std::vector<std::pair<std::string, std::string>> DescribeMemory(
    const MemoryPlan& plan, int64_t available_bytes) {
  std::string total =
      absl::StrFormat("about %.0f MiB", Mebibytes(plan.bytes()));
  if (available_bytes > 0) {
    absl::StrAppend(&total, absl::StrFormat(" of the %.0f MiB available here",
                                            Mebibytes(available_bytes)));
  }
  std::vector<std::pair<std::string, std::string>> lines = {{"memory", total}};
  for (const ProcessMemory& process : plan.processes) {
    std::vector<std::string> parts;
    for (const auto& [name, bytes] : process.parts) {
      parts.push_back(absl::StrFormat("%s %.0f", name, Mebibytes(bytes)));
    }
    lines.emplace_back(
        absl::StrCat("  ", process.name),
        absl::StrFormat("%.0f MiB: %s", Mebibytes(process.bytes()),
                        absl::StrJoin(parts, ", ")));
  }
  return lines;
}

std::string MemoryWarning(const MemoryPlan& plan, int64_t available_bytes) {
  if (available_bytes == 0 || plan.bytes() <= available_bytes) return "";
  return absl::StrFormat(
      "the plan takes %.0f MiB of memory and %.0f MiB are available: the "
      "system may kill a process of the run. Lower workers, prompts_per_step, "
      "group_size or max_tokens, take a smaller model, or end what else runs "
      "here",
      Mebibytes(plan.bytes()), Mebibytes(available_bytes));
}

}  // namespace temper
