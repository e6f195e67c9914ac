#include "rollout/task_refusals.h"

namespace temper {

absl::Status TaskRefusals::Check(const Task& task,
                                 const Environment& environment) {
  const std::pair<std::string, std::string> key(task.environment(), task.id());
  std::shared_ptr<Answer> answer;
  {
    MutexLock lock(&mutex_);
    std::shared_ptr<Answer>& kept = answers_[key];
    if (kept != nullptr) {
      answer = kept;  // `kept` may go while the lock is let go of
      while (!answer->known) answered_.Wait(&mutex_);
      return answer->status;
    }
    kept = answer = std::make_shared<Answer>();
  }
  // Unlocked: it may wait for a host for half a minute.
  const absl::Status status = environment.Validate(task).status();
  MutexLock lock(&mutex_);
  answer->known = true;
  answer->status = status;
  if (!status.ok() && !absl::IsInvalidArgument(status)) answers_.erase(key);
  answered_.NotifyAll();
  return status;
}

}  // namespace temper
