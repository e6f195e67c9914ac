// Which tasks their environments refuse: each task is asked of its environment
// (Environment::Validate) before the first of its episodes opens, and then no
// more. An environment in another process may be of another build than the one
// that looked at the tasks before the run began, and only it can say.
//
// Thread-safe. Grows by an entry for each task.

#ifndef ROLLOUT_TASK_REFUSALS_H_
#define ROLLOUT_TASK_REFUSALS_H_

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "environments/environment.h"
#include "kernels/base/mutex.h"
#include "proto/task.pb.h"

namespace temper {

class TaskRefusals {
 public:
  // OK, or the InvalidArgument with which `environment` refuses `task`: such a
  // task can never run. The first caller for a (task's environment, id) asks;
  // who comes meanwhile waits for its answer, as long as Validate may take.
  // Any other error is of the moment: those who waited get it too, the next
  // caller asks again.
  absl::Status Check(const Task& task, const Environment& environment);

 private:
  struct Answer {
    bool known = false;
    absl::Status status;
  };

  Mutex mutex_;
  CondVar answered_;
  // Shared with those who wait: an error of the moment leaves the map.
  std::map<std::pair<std::string, std::string>, std::shared_ptr<Answer>>
      answers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace temper

#endif  // ROLLOUT_TASK_REFUSALS_H_
