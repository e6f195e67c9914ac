// What every verb says, on stdout and stderr, goes through here: the only place
// that writes to a terminal. Every text argument is shown as part of one line
// (kernels/base/shown_text.h), whoever wrote it; what is meant as lines is
// handed over as Lines. The format's own text is ours and goes out as it is.
//
//   PrintOut("group %d, task %s\n", group.number, group.task_id);
//   PrintOut("%s", Lines{FormatEpisode(episode)});
//
// Formats are absl::StrFormat's. Thread-safe as stdio is. A failed write is not
// reported: who reads has gone.

#ifndef TOOLS_CLI_PRINT_H_
#define TOOLS_CLI_PRINT_H_

#include <cstdio>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/shown_text.h"

namespace temper {

// Text of several lines. Whoever formatted it has shown what is in a line by
// ShownLine.
struct Lines {
  std::string text;
};

namespace print_internal {

template <typename T>
auto Shown(const T& value) {
  if constexpr (std::is_arithmetic_v<T>) {
    return value;
  } else if constexpr (std::is_same_v<T, Lines>) {
    return ShownLines(value.text);
  } else {
    return ShownLine(std::string(value));
  }
}

template <typename T>
using ShownType = decltype(Shown(std::declval<const T&>()));

}  // namespace print_internal

template <typename... Args>
void PrintTo(FILE* stream,
             const absl::FormatSpec<print_internal::ShownType<Args>...>& format,
             const Args&... args) {
  const std::string text =
      absl::StrFormat(format, print_internal::Shown(args)...);
  fwrite(text.data(), 1, text.size(), stream);
}

template <typename... Args>
void PrintOut(
    const absl::FormatSpec<print_internal::ShownType<Args>...>& format,
    const Args&... args) {
  PrintTo(stdout, format, args...);
}

template <typename... Args>
void PrintErr(
    const absl::FormatSpec<print_internal::ShownType<Args>...>& format,
    const Args&... args) {
  PrintTo(stderr, format, args...);
}

}  // namespace temper

#endif  // TOOLS_CLI_PRINT_H_
