// For tests: what runs in sandboxes, as the machine's /proc has it.

#ifndef ENVIRONMENTS_SANDBOX_PROCESSES_FIXTURE_H_
#define ENVIRONMENTS_SANDBOX_PROCESSES_FIXTURE_H_

#include <sys/types.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace temper {

struct SandboxProcess {
  pid_t pid = 0;
  pid_t parent = 0;
  std::string name;
  char state = 0;  // T stopped, Z dead, R running, S asleep
};

// All processes below `helper`, the process that starts sandboxes.
inline std::vector<SandboxProcess> ProcessesBelow(pid_t helper) {
  std::map<pid_t, SandboxProcess> all;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc", error)) {
    std::ifstream in(entry.path() / "stat");
    std::string text;
    std::getline(in, text);
    const size_t begin = text.find('('), end = text.rfind(')');
    if (end == std::string::npos) continue;
    SandboxProcess process;
    process.pid = static_cast<pid_t>(std::atoi(text.c_str()));
    process.name = text.substr(begin + 1, end - begin - 1);
    process.state = text[end + 2];
    process.parent = static_cast<pid_t>(std::atoi(text.c_str() + end + 4));
    all[process.pid] = process;
  }
  std::vector<SandboxProcess> below;
  for (const auto& [pid, process] : all) {
    pid_t at = pid;
    for (size_t i = 0; i < all.size() && at != helper && all.count(at); ++i) {
      at = all[at].parent;
    }
    if (at == helper && pid != helper) below.push_back(process);
  }
  return below;
}

// Those of them that run code of a candidate and may use the CPU: neither
// stopped nor dead.
inline std::vector<std::string> AwakeBelow(pid_t helper) {
  std::vector<std::string> awake;
  for (const SandboxProcess& process : ProcessesBelow(helper)) {
    if (process.name == "bwrap" || process.name.rfind("temper-", 0) == 0 ||
        process.state == 'T' || process.state == 'Z') {
      continue;
    }
    awake.push_back(std::to_string(process.pid) + " " + process.name + " " +
                    process.state);
  }
  return awake;
}

// Cells that go on after their reply: written by themselves, or because they
// leave something behind.
inline std::vector<std::string> CellsThatGoOn() {
  const std::string forge =
      "import os, posix, signal, threading, time\n"
      "def spin(*any):\n  while True: pass\n"
      "def forge(): os.write(3, bytes(5))\n";
  return {
      forge +
          "for i in range(2):\n  if os.fork() == 0: spin()\nforge()\nspin()",
      forge + "forge()\nspin()",
      forge +
          "for i in range(2):\n  if os.fork() == 0: spin()\n"
          "forge()\ntime.sleep(1000)",
      // Never at one place: each process forks the next and ends.
      forge +
          "if os.fork() == 0:\n  while True:\n"
          "    try:\n      if os.fork(): os._exit(0)\n"
          "    except OSError: pass\nforge()\ntime.sleep(1000)",
      // Wakes later.
      forge +
          "signal.signal(signal.SIGALRM, spin)\n"
          "signal.setitimer(signal.ITIMER_REAL, 0.2)\n"
          "forge()\ntime.sleep(1000)",
      // The driver's own reply, with its clean-up undone.
      forge +
          "posix.kill = lambda *any: None\n"
          "posix.waitpid = os.close\n"
          "if os.fork() == 0: spin()",
      forge + "threading.Thread(target=spin, daemon=True).start()",
      // Two that wake each other.
      forge +
          "signal.signal(signal.SIGCONT, spin)\nother = os.fork()\n"
          "if other == 0:\n  while True: os.kill(os.getppid(), 18)\n"
          "forge()\nwhile True: os.kill(other, 18)",
  };
}

}  // namespace temper

#endif  // ENVIRONMENTS_SANDBOX_PROCESSES_FIXTURE_H_
