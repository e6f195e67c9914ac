// Text that begins with a byte-order mark: some editors write one, and no
// reader here takes it.
//
// Stateless; thread-safe.

#ifndef KERNELS_BASE_BYTE_ORDER_MARK_H_
#define KERNELS_BASE_BYTE_ORDER_MARK_H_

#include <string>

#include "absl/status/status.h"

namespace temper {

// InvalidArgument, beginning with `what` (a path), if the first bytes at
// `text` are the mark of UTF-8 or UTF-16: it names them and says how to save
// the file.
absl::Status RefuseByteOrderMark(const char* text, size_t size,
                                 const std::string& what);
inline absl::Status RefuseByteOrderMark(const std::string& text,
                                        const std::string& what) {
  return RefuseByteOrderMark(text.data(), text.size(), what);
}

}  // namespace temper

#endif  // KERNELS_BASE_BYTE_ORDER_MARK_H_
