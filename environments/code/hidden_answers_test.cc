// A hidden answer that nobody can guess is not to be found where the code that
// is graded runs: not in its memory, its descriptors or its files.

#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "environments/registry.h"
#include "environments/sandbox_test_main.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "proto/task.pb.h"

namespace temper {
namespace {

using Json = nlohmann::json;

SandboxPool* sandboxes = nullptr;  // set in main

// Of a kind that stands nowhere else, and that its seeker need not spell.
std::string NewMarker() {
  std::random_device random;
  std::string marker = "zq";
  while (marker.size() < 34) marker += "0123456789abcdef"[random() % 16];
  return marker;
}

// Python that defines found(), the first marker that it meets, or None.
constexpr char kSeek[] = R"(
import ctypes, glob, os, re
wanted = re.compile(b"z" + b"q[0-9a-f]{32}")

def memory():
    libc = ctypes.CDLL(None)
    libc.sbrk.restype = ctypes.c_void_p
    read, write = os.pipe()
    top, near = libc.sbrk(0), id(object())
    for begin, end in ((top - (16 << 20), top),
                       (near - (32 << 20), near + (32 << 20))):
        for at in range(begin & ~4095, end, 4096):
            if libc.write(write, ctypes.c_void_p(at), 4096) == 4096:
                yield os.read(read, 4096)

def files():
    for fd in range(64):
        try: yield os.pread(fd, 1 << 20, 0)
        except OSError: pass
    paths = glob.glob("/proc/[0-9]*/*") + glob.glob("/proc/[0-9]*/fd/*")
    for top in ("/tmp", "/run", "/etc", "/var", "/dev/shm", "."):
        for folder, _, names in os.walk(top):
            paths += [os.path.join(folder, name) for name in names]
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try: yield os.read(fd, 1 << 20)
            finally: os.close(fd)
        except OSError: pass

def found():
    for places in (memory, files):
        for data in places():
            for marker in wanted.findall(data):
                return marker.decode()
)";

// Of code whose tests all have the answer `marker`, and are given `given`.
Verdict Grade(const std::string& entry_point, const std::string& code,
              const std::string& given, const std::string& marker) {
  Json tests = Json::array();
  for (const char* number : {"1", "2"}) {
    if (entry_point.empty()) {
      tests.push_back({{"stdin", absl::StrCat(number, " ", given, "\n")},
                       {"stdout", marker}});
    } else {
      tests.push_back({{"args", absl::StrCat(number, ", '", given, "'")},
                       {"value", absl::StrCat("'", marker, "'")}});
    }
  }
  Json payload = {{"tests", tests}};
  if (!entry_point.empty()) payload["entry_point"] = entry_point;
  Task task;
  task.set_id("t");
  task.set_environment("code");
  task.add_messages()->set_role("user");
  task.set_payload_json(payload.dump());
  auto episode = *NewEnvironment("code", {.sandboxes = sandboxes});
  const auto begun = episode->Reset(task, 1);
  EXPECT_TRUE(begun.ok()) << begun.status();
  Message answer;
  answer.set_role("assistant");
  answer.set_content(absl::StrCat("```python\n", kSeek, code, "\n```"));
  const auto verdict = episode->Grade(OUTCOME_OK, {answer});
  EXPECT_TRUE(verdict.ok()) << verdict.status();
  return verdict.ok() ? *verdict : Verdict();
}

void ExpectFoundOnlyIfGiven(const std::string& entry_point,
                            const std::string& code) {
  const std::string marker = NewMarker();
  // What it is given it finds, so it would find the answer too.
  const Verdict given = Grade(entry_point, code, marker, marker);
  EXPECT_TRUE(given.correct()) << given.detail();
  const Verdict hidden = Grade(entry_point, code, "nothing", marker);
  EXPECT_TRUE(hidden.verified());
  ASSERT_EQ(hidden.scores_size(), 1);
  EXPECT_EQ(hidden.scores(0).value(), 0) << "an answer was found";
}

TEST(HiddenAnswersTest, NoneIsWhereAFunctionRuns) {
  ExpectFoundOnlyIfGiven("seek", "def seek(number, text): return found()");
}

TEST(HiddenAnswersTest, NoneIsWhereAProgramRuns) {
  ExpectFoundOnlyIfGiven("", "print(found())");
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  return temper::RunTestsWithSandboxes(argc, argv, &temper::sandboxes);
}
