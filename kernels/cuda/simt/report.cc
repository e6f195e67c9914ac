#include "kernels/cuda/simt/report.h"

#include <cstdio>
#include <cstdlib>

#include "kernels/base/log.h"
#include "kernels/cuda/simt/access.h"
#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/emulator.h"

#ifdef __SANITIZE_ADDRESS__
// A launch that fails leaves its stacks as they stand, and with them the texts
// that its report was put together from.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }
#endif

namespace temper::simt {
namespace {

FailureCatcher* catcher = nullptr;

std::string Triple(const uint3& index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," +
         std::to_string(index.z) + ")";
}

}  // namespace

class Failures {
 public:
  // Keeps the message if somebody wants it.
  static bool Keep(const std::string& message) {
    if (catcher == nullptr) return false;
    if (catcher->message_.empty()) catcher->message_ = message;
    return true;
  }
};

std::string NameOf(const Thread& thread) {
  return "thread " + Triple(thread.index);
}

void Fail(const char* name, const std::string& what, Site site) {
  WatchThread(nullptr);
  Block& block = Block::Get();
  const Thread* thread = block.current();
  CHECK(thread != nullptr) << name << ": " << what;
  const std::string message = std::string(name) + ": " + what + "; " +
                              block.launched().kernel + ", block " +
                              Triple(block.launched().block_index) + ", " +
                              NameOf(*thread) + ", " + site.Text();
  if (Failures::Keep(message)) block.Abandon();
  std::fprintf(stderr, "simt: %s\n", message.c_str());
  std::abort();
}

FailureCatcher::FailureCatcher() {
  CHECK(catcher == nullptr) << "two catchers at once";
  catcher = this;
}

FailureCatcher::~FailureCatcher() { catcher = nullptr; }

}  // namespace temper::simt
