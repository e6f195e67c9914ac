// What is wrong with some of many things (tasks, demonstrations), told as one
// failure: a line for each of the first kShown, then how many more there are.
//
// What a fault quotes comes from outside, so each is written out as one line
// (kernels/base/shown_text.h) where it enters the message: a break in it cannot
// pass for the next fault. Which messages have such lines says the status
// itself; of any other a line break is text from outside.
//
// Not thread-safe; ShownMessage is pure.

#ifndef KERNELS_BASE_FAULT_LIST_H_
#define KERNELS_BASE_FAULT_LIST_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace temper {

class FaultList {
 public:
  static constexpr size_t kShown = 10;

  // `fault` says what is wrong, and where.
  void Add(const std::string& fault);

  int64_t count() const { return count_; }

  // OK while none was added; else InvalidArgument: the fault itself where there
  // is one, else `title`, one line, and the faults below it, indented by two.
  absl::Status status(const std::string& title) const;

 private:
  std::vector<std::string> shown_;
  int64_t count_ = 0;
};

// A failure's message as a terminal or a log may have it: that of
// FaultList::status as its lines, any other as one line.
std::string ShownMessage(const absl::Status& status);

}  // namespace temper

#endif  // KERNELS_BASE_FAULT_LIST_H_
