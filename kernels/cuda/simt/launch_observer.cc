#include "kernels/cuda/simt/launch_observer.h"

namespace temper::simt {
namespace {

LaunchObserver* the_observer = nullptr;

}  // namespace

void SetLaunchObserver(LaunchObserver* observer) { the_observer = observer; }
LaunchObserver* TheLaunchObserver() { return the_observer; }

}  // namespace temper::simt
