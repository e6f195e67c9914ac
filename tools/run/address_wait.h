// The wait for an address that another process of the run writes to a file once
// it is up. Functions without state.

#ifndef TOOLS_RUN_ADDRESS_WAIT_H_
#define TOOLS_RUN_ADDRESS_WAIT_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"

namespace temper {

struct AddressWait {
  std::string path;
  // Whether that process is seen to be at work, though not yet up: a learner
  // checks its run.db and reads its model first, for as long as they are large.
  // May be empty: that cannot be seen.
  std::function<bool()> at_work;
  int64_t absent_ms_max = 120'000;  // without it being at work
  int64_t total_ms_max = 3'600'000;
};

// The address in the file `path`, without the white space at its end.
absl::StatusOr<std::string> ReadAddress(const std::string& path);

// The same, once there is one. Cancelled once a stop
// signal came (tools/run/stop_signal.h); DeadlineExceeded names the file and
// what to look at. Tells stderr that it waits, at first and each half minute.
absl::StatusOr<std::string> AwaitAddress(const AddressWait& wait);

}  // namespace temper

#endif  // TOOLS_RUN_ADDRESS_WAIT_H_
