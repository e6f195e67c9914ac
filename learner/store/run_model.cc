#include "learner/store/run_model.h"

#include <sys/stat.h>

#include <cstdint>

#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/model_files.h"

namespace temper {
namespace {

constexpr uint64_t kConfigBytesMax = 1 << 20;
constexpr char kConfig[] = "/config.json";

bool IsFile(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

}  // namespace

absl::Status KeepRunModel(const std::string& run_dir,
                          const std::string& model) {
  const std::string kept = run_dir + "/model";
  ASSIGN_OR_RETURN(const std::string config,
                   ReadFile(model + kConfig, kConfigBytesMax));
  RETURN_IF_ERROR(MakeDirectories(kept));
  RETURN_IF_ERROR(CopyModelFiles(model, kept));
  // The last: now it is a model's.
  return WriteFileDurably(kept + kConfig, config);
}

std::string RunModelDir(const std::string& run_dir, const std::string& model) {
  const std::string kept = run_dir + "/model";
  return IsFile(kept + kConfig) ? kept : model;
}

}  // namespace temper
