#include "kernels/base/byte_order_mark.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace temper {

absl::Status RefuseByteOrderMark(const char* text, size_t size,
                                 const std::string& what) {
  struct Mark {
    const char* bytes;
    const char* name;
  };
  for (const Mark& mark :
       {Mark{"\xEF\xBB\xBF", "EF BB BF"}, Mark{"\xFF\xFE", "FF FE, UTF-16"},
        Mark{"\xFE\xFF", "FE FF, UTF-16"}}) {
    // A text may hold zero bytes and need not end in one: its size counts.
    if (!absl::StartsWith(absl::string_view(text, size), mark.bytes)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(what, " begins with a byte-order mark (", mark.name,
                     "); save it as UTF-8 without one"));
  }
  return absl::OkStatus();
}

}  // namespace temper
