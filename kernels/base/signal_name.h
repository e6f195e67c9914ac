// What a signal that ended a process means, for people.
//
// Functions without state; thread-safe.

#ifndef KERNELS_BASE_SIGNAL_NAME_H_
#define KERNELS_BASE_SIGNAL_NAME_H_

#include <string>

namespace temper {

// "signal 25 (SIGXFSZ: a file grew past the limit on its size, ulimit -f)";
// without a reason for a signal that is not the sign of one thing, and the
// number alone for one without a name.
std::string DescribeSignal(int number);

}  // namespace temper

#endif  // KERNELS_BASE_SIGNAL_NAME_H_
