#include "tools/run/open_files.h"

#include <sys/resource.h>

#include "absl/strings/str_cat.h"

namespace temper {
namespace {

// With four workers a process of a run had up to 58 open, the environment host
// the most; what a larger run takes fits below this four times.
constexpr rlim_t kOpenFilesMin = 256;

}  // namespace

absl::StatusOr<uint64_t> OpenFilesMax() {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < kOpenFilesMin) {
    return absl::ResourceExhaustedError(
        absl::StrCat(limit.rlim_cur, " open files a process; a run needs ",
                     kOpenFilesMin, ": `ulimit -n 1024`"));
  }
  return limit.rlim_cur;
}

}  // namespace temper
