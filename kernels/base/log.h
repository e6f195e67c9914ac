// Records on stderr, one line each, and CHECK for what only our own bug can
// cause. CHECK stays on in optimised builds. Thread-safe: a record is written
// by one write(2).
//
//   LOG(INFO) << "step " << step;       levels: INFO, WARNING, ERROR
//   CHECK(n > 0) << "n is " << n;       prints, then aborts
//   CHECK_EQ(a, b);                     prints both values

#ifndef KERNELS_BASE_LOG_H_
#define KERNELS_BASE_LOG_H_

#include <sstream>

namespace temper {

enum class LogLevel { kINFO, kWARNING, kERROR, kFATAL };

// The record being written; its destructor emits it, and aborts if kFATAL.
class LogRecord {
 public:
  LogRecord(LogLevel level, const char* file, int line);
  ~LogRecord();
  LogRecord(const LogRecord&) = delete;
  LogRecord& operator=(const LogRecord&) = delete;
  std::ostream& stream() { return stream_; }

 private:
  const LogLevel level_;
  std::ostringstream stream_;
};

// Lets CHECK be one expression of type void, with << after it.
struct LogVoidify {
  void operator&(std::ostream&) const {}
};

}  // namespace temper

#define LOG(level) \
  ::temper::LogRecord(::temper::LogLevel::k##level, __FILE__, __LINE__).stream()

#define CHECK(condition)             \
  __builtin_expect(!!(condition), 1) \
      ? (void)0                      \
      : ::temper::LogVoidify() & LOG(FATAL) << "CHECK " #condition ": "

#define CHECK_OP_(a, b, op) \
  CHECK((a)op(b)) << "(" << (a) << " " #op " " << (b) << ") "
#define CHECK_EQ(a, b) CHECK_OP_(a, b, ==)
#define CHECK_NE(a, b) CHECK_OP_(a, b, !=)
#define CHECK_LE(a, b) CHECK_OP_(a, b, <=)
#define CHECK_LT(a, b) CHECK_OP_(a, b, <)
#define CHECK_GE(a, b) CHECK_OP_(a, b, >=)
#define CHECK_GT(a, b) CHECK_OP_(a, b, >)

#endif  // KERNELS_BASE_LOG_H_
