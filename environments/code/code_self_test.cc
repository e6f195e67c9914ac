#include "environments/code/code_self_test.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "environments/cpp_compiler.h"
#include "kernels/base/log.h"

namespace temper {

// The text of attacks.txt, which BUILD makes a source of.
extern const char kAttacksText[];

namespace {

using Kind = SelfTestCase::Kind;

constexpr char kSummaryPayload[] = R"({"entry_point": "summary", "tests": [
  {"args": "[5, 2, 5]", "value": "[2, 54]"},
  {"args": "[1, 2, 3, 4]", "value": "[4, 30]"},
  {"args": "[-7]", "value": "[1, 49]"}]})";

constexpr char kSumPayload[] = R"("tests": [
  {"stdin": "2\n40 2\n", "stdout": "42\n"},
  {"stdin": "0\n\n", "stdout": "0\n"},
  {"stdin": "3\n-1 -2 -3\n", "stdout": "-6"}]})";

Task TaskWith(const std::string& payload) {
  Task task;
  task.set_id("self-test");
  task.set_environment("code");
  Message* message = task.add_messages();
  message->set_role("user");
  message->set_content("Write the program.");
  task.set_payload_json(payload);
  return task;
}

std::string Fenced(const std::string& code) {
  return absl::StrCat("Here it is:\n```\n", code, "\n```\n");
}

// Programs that add the numbers of their input.
struct KnownProgram {
  const char* name;
  Kind kind;
  const char* code;
};

constexpr KnownProgram kPythonPrograms[] = {
    {"python_good", Kind::kGood,
     "input()\nprint(sum(map(int, input().split())))"},
    {"python_good_that_exits", Kind::kGood,
     "import atexit, sys\ndef main():\n  sys.stdin.readline()\n"
     "  print(sum(map(int, sys.stdin.read().split())))\n  sys.exit(0)\n"
     "atexit.register(lambda: None)\nif __name__ == '__main__': main()"},
    {"python_bad", Kind::kBad, "input()\nprint(42)"},
    {"python_empty", Kind::kEmpty, " "},
    {"python_exit_zero", Kind::kAttack, "import sys; sys.exit(0)"},
    {"python_right_and_failing", Kind::kAttack,
     "import os\ninput()\nprint(sum(map(int, input().split())), flush=True)\n"
     "os._exit(1)"},
    {"python_more_than_asked", Kind::kAttack, "print(42); print(0); print(-6)"},
    {"python_wildcards", Kind::kAttack, "print('.*'); print('%')"},
    {"python_sentinels", Kind::kAttack,
     "import os\nfor fd in range(64):\n  try: os.write(fd, b'PASS\\n42\\n')\n"
     "  except OSError: pass"},
    {"python_output_rewound", Kind::kAttack,
     "import os\nfor text in (b'42', b'0', b'-6'):\n  os.lseek(1, 0, 0)\n"
     "  os.write(1, text)"},
    {"python_reads_tests", Kind::kAttack,
     "import glob\nfor p in glob.glob('/tmp/**', recursive=True) + "
     "glob.glob('/proc/*/*'):\n  try: print(open(p).read())\n"
     "  except OSError: pass"},
};

constexpr KnownProgram kCppPrograms[] = {
    {"cpp_good", Kind::kGood,
     "#include <iostream>\nint main() { long long n, x, sum = 0; std::cin >> n;"
     "\nwhile (std::cin >> x) sum += x; std::cout << sum << \"\\n\"; }"},
    {"cpp_bad", Kind::kBad, "#include <cstdio>\nint main() { puts(\"42\"); }"},
    {"cpp_empty", Kind::kEmpty, ""},
    {"cpp_that_does_not_compile", Kind::kBad, "int main() { return 0 }"},
    {"cpp_includes_the_machine", Kind::kAttack,
     "#include \"/etc/passwd\"\nint main() {}"},
    {"cpp_compiles_in_tests", Kind::kAttack,
     "asm(\".incbin \\\"/proc/self/environ\\\"\");\nint main() {}"},
    {"cpp_exit_before_main", Kind::kAttack,
     "#include <unistd.h>\n__attribute__((constructor)) void f() { _exit(0); }"
     "\nint main() {}"},
};

}  // namespace

std::vector<CodeAttack> CodeAttacks() {
  std::vector<CodeAttack> attacks;
  std::vector<std::string> sections =
      absl::StrSplit(absl::string_view(kAttacksText), "\n=== ");
  for (size_t i = 1; i < sections.size(); ++i) {
    const std::string& section = sections[i];
    const size_t name_end = section.find('\n');
    const size_t twin = section.find("\n--- twin\n");
    CHECK(name_end != std::string::npos && twin != std::string::npos)
        << "attacks.txt: " << section;
    attacks.push_back(
        {section.substr(0, name_end),
         section.substr(name_end + 1, twin - name_end),
         section.substr(twin + std::string("\n--- twin\n").size())});
  }
  return attacks;
}

std::vector<SelfTestCase> CodeSelfTest() {
  std::vector<SelfTestCase> cases;
  const Task summary = TaskWith(kSummaryPayload);
  cases.push_back({"function_empty", Kind::kEmpty, summary, "I do not know."});
  cases.push_back({"function_of_no_code", Kind::kEmpty, summary, Fenced("")});
  cases.push_back({"function_bad", Kind::kBad, summary,
                   Fenced("def summary(numbers):\n"
                          "  return [len(numbers), sum(numbers)]")});
  for (const CodeAttack& attack : CodeAttacks()) {
    cases.push_back(
        {attack.name, Kind::kAttack, summary, Fenced(attack.attack)});
    cases.push_back({absl::StrCat("the honest twin of ", attack.name),
                     Kind::kGood, summary, Fenced(attack.twin)});
  }
  const Task python = TaskWith(absl::StrCat("{", kSumPayload));
  for (const KnownProgram& program : kPythonPrograms) {
    cases.push_back({program.name, program.kind, python, Fenced(program.code)});
  }
  const Task cpp =
      TaskWith(absl::StrCat("{\"language\": \"cpp\", ", kSumPayload));
  for (const KnownProgram& program : kCppPrograms) {
    cases.push_back({program.name, program.kind, cpp, Fenced(program.code),
                     /*runs_here=*/CanCompileCpp});
  }
  return cases;
}

}  // namespace temper
