#include "tools/view/token_view.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/shown_text.h"

namespace temper {
namespace {

std::string LogP(const std::optional<float>& value) {
  // Seven digits tell two floats apart where they are not the same bits, nearly
  // always; --json has all of them.
  return value.has_value() ? absl::StrFormat("%.7g", *value) : "";
}

}  // namespace

std::string FormatTrajectory(
    const TrajectoryView& view,
    const std::function<std::string(int32_t)>& text_of) {
  std::string text = absl::StrCat("episode ", view.episode, ", group ",
                                  view.group, ", sample ", view.sample);
  if (view.step.has_value()) {
    absl::StrAppend(&text, ", trained in step ", *view.step, ", advantage ",
                    *view.advantage);
  }
  absl::StrAppend(&text, "\n",
                  absl::StrFormat("%6s %7s  %-20s %13s %13s %10s %4s %7s\n",
                                  "token", "id", "text", "logp_rollout",
                                  "logp_train", "ratio", "mask", "version"));
  int64_t branch = 0;
  for (const TokenView& token : view.tokens) {
    if (token.branch != branch) {
      branch = token.branch;
      absl::StrAppend(&text, "branch ", branch, "\n");
    }
    const std::optional<double> ratio = token.Ratio();
    const std::string ratio_text =
        ratio.has_value() ? absl::StrFormat("%.7g", *ratio) : "";
    const std::string mask = !ratio.has_value() ? "" : *view.masked ? "0" : "1";
    std::string line = absl::StrFormat(
        "%6d %7d  %-20s %13s %13s %10s %4s %7s", token.position, token.id,
        ShownLine(text_of(token.id)), LogP(token.logp_rollout),
        LogP(token.logp_train), ratio_text, mask,
        token.version ? absl::StrCat(*token.version) : "");
    // The last columns of a token that was not sampled are blank.
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

}  // namespace temper
