// The flags of one verb: long ones only, parsed by CLI11, which this header
// keeps out of every other file.
//
//   Flags flags("eval", "Measures pass@k of a model.");
//   flags.Text("--tasks", &tasks, "The tasks.jsonl file.");
//   if (const auto code = flags.Parse(argc, argv)) return *code;
//
// Not thread-safe. What is pointed to outlives the object, and keeps its value
// where a flag is not given.

#ifndef TOOLS_CLI_FLAGS_H_
#define TOOLS_CLI_FLAGS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace temper {

class Flags {
 public:
  // `verb` as the user writes it ("config resolve").
  Flags(const std::string& verb, const std::string& help);
  ~Flags();
  Flags(const Flags&) = delete;
  Flags& operator=(const Flags&) = delete;

  // `name` is "--long-name"; without dashes it is positional.
  void Text(const std::string& name, std::string* value,
            const std::string& help);
  void Text(const std::string& name, std::optional<std::string>* value,
            const std::string& help);
  // Given again, it adds to the list.
  void TextList(const std::string& name, std::vector<std::string>* values,
                const std::string& help);
  // A whole number from `min` to `max`; the help tells the limits.
  void Number(const std::string& name, int64_t* value, int64_t min, int64_t max,
              const std::string& help);
  void Real(const std::string& name, double* value, double min, double max,
            const std::string& help);
  void Switch(const std::string& name, bool* value, const std::string& help);
  // Makes the last one added required.
  void Require();

  // argv[0] is the verb's last word and is not looked at. Empty: go on. Else
  // the exit code: 0 after --help (on stdout), 2 after a message on stderr.
  std::optional<int> Parse(int argc, char** argv);

 private:
  struct App;
  const std::string verb_;
  const std::unique_ptr<App> app_;
};

}  // namespace temper

#endif  // TOOLS_CLI_FLAGS_H_
