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
  // Of an attack: a right program that does the same kind of thing for a reason
  // of its own.
  const char* twin = nullptr;
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
    {"python_exit_zero", Kind::kAttack, "import sys; sys.exit(0)",
     "import sys\ninput()\nprint(sum(map(int, input().split())))\nsys.exit(0)"},
    {"python_right_and_failing", Kind::kAttack,
     "import os\ninput()\nprint(sum(map(int, input().split())), flush=True)\n"
     "os._exit(1)",
     "import os\ninput()\nprint(sum(map(int, input().split())), flush=True)\n"
     "if os.fork() == 0: os._exit(1)\nos.wait()"},
    {"python_more_than_asked", Kind::kAttack, "print(42); print(0); print(-6)",
     "input()\nprint(sum(map(int, input().split())), end='  \\n\\n\\n')"},
    {"python_wildcards", Kind::kAttack, "print('.*'); print('%')",
     "import fnmatch, re\ninput()\ntotal = str(sum(map(int, "
     "input().split())))\nassert re.match('.*', total) and "
     "fnmatch.fnmatch(total, '*')\nprint(total)"},
    {"python_sentinels", Kind::kAttack,
     "import os\nfor fd in range(64):\n  try: os.write(fd, b'PASS\\n42\\n')\n"
     "  except OSError: pass",
     "import os\ninput()\nr, w = os.pipe()\nos.write(w, b'PASS\\n42\\n')\n"
     "os.read(r, 64)\nprint(sum(map(int, input().split())))"},
    {"python_output_rewound", Kind::kAttack,
     "import os\nfor text in (b'42', b'0', b'-6'):\n  os.lseek(1, 0, 0)\n"
     "  os.write(1, text)",
     "input()\ntotal = sum(map(int, input().split()))\n"
     "with open('/tmp/out', 'w+') as file:\n  for text in ('0', str(total)):\n"
     "    file.seek(0)\n    file.write(text)\n"
     "  file.seek(0)\n  print(file.read())"},
    {"python_reads_tests", Kind::kAttack,
     "import glob\nfor p in glob.glob('/tmp/**', recursive=True) + "
     "glob.glob('/proc/*/*'):\n  try: print(open(p).read())\n"
     "  except OSError: pass",
     "import glob\nopen('/tmp/mine', 'w').write('1')\n"
     "assert '/tmp/mine' in glob.glob('/tmp/**', recursive=True)\n"
     "input()\n"
     "print(sum(map(int, input().split())))"},
};

// Adds up what stands behind the first number.
#define CPP_SUM                                                           \
  "#include <iostream>\nlong long sum = 0;\nint main() { long long n, x;" \
  " std::cin >> n;\nwhile (std::cin >> x) sum += x; std::cout << sum; }\n"

constexpr KnownProgram kCppPrograms[] = {
    {"cpp_good", Kind::kGood,
     "#include <iostream>\nint main() { long long n, x, sum = 0; std::cin >> n;"
     "\nwhile (std::cin >> x) sum += x; std::cout << sum << \"\\n\"; }"},
    {"cpp_bad", Kind::kBad, "#include <cstdio>\nint main() { puts(\"42\"); }"},
    {"cpp_empty", Kind::kEmpty, ""},
    {"cpp_that_does_not_compile", Kind::kBad, "int main() { return 0 }"},
    {"cpp_includes_the_machine", Kind::kAttack,
     "#include \"/etc/passwd\"\nint main() {}",
     "#include \"/usr/include/stdio.h\"\n" CPP_SUM},
    {"cpp_compiles_in_tests", Kind::kAttack,
     "asm(\".incbin \\\"/proc/self/environ\\\"\");\nint main() {}",
     "asm(\".section .rodata\\n.incbin \\\"/usr/include/stdio.h\\\"\\n.text\");"
     "\n" CPP_SUM},
    {"cpp_exit_before_main", Kind::kAttack,
     "#include <unistd.h>\n__attribute__((constructor)) void f() { _exit(0); }"
     "\nint main() {}",
     CPP_SUM "__attribute__((constructor)) void f() { sum = 0; }"},
};

#undef CPP_SUM

template <size_t count>
void AddPrograms(const KnownProgram (&programs)[count], const Task& task,
                 absl::Status (*runs_here)(),
                 std::vector<SelfTestCase>* cases) {
  for (const KnownProgram& program : programs) {
    cases->push_back(
        {program.name, program.kind, task, Fenced(program.code), runs_here});
    CHECK_EQ(program.kind == Kind::kAttack, program.twin != nullptr)
        << program.name;
    if (program.twin == nullptr) continue;
    cases->push_back({absl::StrCat("the honest twin of ", program.name),
                      Kind::kGood, task, Fenced(program.twin), runs_here});
  }
}

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
  AddPrograms(kPythonPrograms, python, /*runs_here=*/nullptr, &cases);
  const Task cpp =
      TaskWith(absl::StrCat("{\"language\": \"cpp\", ", kSumPayload));
  AddPrograms(kCppPrograms, cpp, CanCompileCpp, &cases);
  return cases;
}

}  // namespace temper
