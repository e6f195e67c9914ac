#include "kernels/base/log.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>

#include "kernels/base/shown_text.h"

namespace temper {
namespace {

constexpr char kLetters[] = "IWEF";

}  // namespace

LogRecord::LogRecord(LogLevel level, const char* file, int line)
    : level_(level) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts;
  // UTC, so that logs of machines in two places can be laid side by side.
  gmtime_r(&now.tv_sec, &parts);
  char stamp[64];
  snprintf(stamp, sizeof stamp, "%c %02d:%02d:%02d.%03ld ",
           kLetters[static_cast<int>(level)], parts.tm_hour, parts.tm_min,
           parts.tm_sec, now.tv_nsec / 1000000);
  const char* slash = strrchr(file, '/');
  stream_ << stamp << (slash ? slash + 1 : file) << ":" << line << " ";
}

LogRecord::~LogRecord() {
  // One write a record, so that lines of several threads and processes that
  // share a log do not mix.
  const std::string text = ShownLine(stream_.str()) + "\n";
  // A failed write to stderr leaves nowhere to say so.
  [[maybe_unused]] const auto written =
      write(STDERR_FILENO, text.data(), text.size());
  if (level_ == LogLevel::kFATAL) abort();
}

}  // namespace temper
