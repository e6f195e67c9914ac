#include "learner/learner_wait.h"

#include <utility>
#include <vector>

#include "kernels/base/log.h"

namespace temper {
namespace {

void Write(RunDb* db, const std::vector<WaitRecord>& waits) {
  // Who waits must not end a run by saying so.
  const absl::Status status = db->RecordWaits(LearnerWait::kProcess, waits);
  if (!status.ok()) LOG(WARNING) << "the learner's waits: " << status;
}

}  // namespace

LearnerWait::LearnerWait(const WaitContext& context, std::string name,
                         int64_t deadline_ms)
    : context_(context),
      name_(std::move(name)),
      deadline_ms_(deadline_ms),
      started_us_(context.clock->MonotonicMicros()),
      since_us_(started_us_) {}

LearnerWait::~LearnerWait() {
  // Only if there is a row: each write is a sync of the disk.
  if (reported_) Write(context_.db, {});
}

void LearnerWait::Progress() { since_us_ = context_.clock->MonotonicMicros(); }

bool LearnerWait::Stopping() const { return context_.stop && context_.stop(); }

bool LearnerWait::Expired() {
  const int64_t now = context_.clock->MonotonicMicros();
  const bool due = reported_ ? now - reported_us_ >= kReportMs * 1000
                             : now - started_us_ >= kQuietMs * 1000;
  if (due) Report(now);
  return now - since_us_ > deadline_ms_ * 1000;
}

void LearnerWait::Report(int64_t now_us) {
  reported_ = true;
  reported_us_ = now_us;
  // Since the last progress, as the deadline counts: readers compare the two.
  Write(context_.db, {{name_, (now_us - since_us_) / 1000, deadline_ms_}});
}

}  // namespace temper
