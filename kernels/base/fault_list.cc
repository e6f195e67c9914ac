#include "kernels/base/fault_list.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/shown_text.h"

namespace temper {
namespace {

// Whoever makes another status of a list's message loses this mark, and the
// message is then shown as one line: ugly, but nothing is forged.
constexpr char kHasLines[] = "temper/has_lines";

}  // namespace

void FaultList::Add(const std::string& fault) {
  ++count_;
  if (shown_.size() < kShown) shown_.push_back(fault);
}

absl::Status FaultList::status(const std::string& title) const {
  if (count_ == 0) return absl::OkStatus();
  if (count_ == 1) return absl::InvalidArgumentError(shown_[0]);
  std::string text = ShownLine(title);
  for (const std::string& fault : shown_) {
    absl::StrAppend(&text, "\n  ", ShownLine(fault));
  }
  const int64_t more = count_ - static_cast<int64_t>(shown_.size());
  if (more > 0) absl::StrAppend(&text, "\n  and ", more, " more");
  absl::Status status = absl::InvalidArgumentError(text);
  status.SetPayload(kHasLines, absl::Cord());
  return status;
}

std::string ShownMessage(const absl::Status& status) {
  const std::string message(status.message());
  return status.GetPayload(kHasLines).has_value() ? ShownLines(message)
                                                  : ShownLine(message);
}

}  // namespace temper
