#include "kernels/cuda/simt/report.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/base/log.h"
#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/emulator.h"

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

std::string LineOf(const Where& where) {
  const char* name = std::strrchr(where.file_name(), '/');
  return std::string(name == nullptr ? where.file_name() : name + 1) + ":" +
         std::to_string(where.line());
}

std::string NameOf(const Thread& thread) {
  return "thread " + Triple(thread.index);
}

void Fail(const char* name, const std::string& what, const std::string& where) {
  Block& block = Block::Get();
  const Thread* thread = block.current();
  CHECK(thread != nullptr) << name << ": " << what;
  const std::string message = std::string(name) + ": " + what + "; " +
                              block.launched().kernel + ", block " +
                              Triple(block.launched().block_index) + ", " +
                              NameOf(*thread) + ", " + where;
  if (Failures::Keep(message)) block.Abandon();
  std::fprintf(stderr, "simt: %s\n", message.c_str());
  std::abort();
}

void Fail(const char* name, const std::string& what, Where where) {
  Fail(name, what, LineOf(where));
}

FailureCatcher::FailureCatcher() {
  CHECK(catcher == nullptr) << "two catchers at once";
  catcher = this;
}

FailureCatcher::~FailureCatcher() { catcher = nullptr; }

}  // namespace temper::simt
