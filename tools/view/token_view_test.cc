#include "tools/view/token_view.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

// Of four tokens, the last two sampled.
TrajectoryView View() {
  TrajectoryView view;
  view.episode = 1;
  view.group = 1;
  for (int i = 0; i < 4; ++i) {
    TokenView& token = view.tokens.emplace_back();
    token.position = i;
    token.id = 5 + i;
    token.sampled = i >= 2;
    if (!token.sampled) continue;
    token.logp_rollout = i == 2 ? -0.5f : -0.25f;
    token.version = 1;
  }
  return view;
}

std::string Format(const TrajectoryView& view) {
  return FormatTrajectory(
      view, [](int32_t id) { return absl::StrCat("<", id, ">"); });
}

constexpr char kHead[] =
    " token      id  text                  logp_rollout    logp_train "
    "     ratio mask version\n"
    "     0       5  <5>\n"
    "     1       6  <6>\n";

TEST(TokenViewTest, ATrainedSampleShowsRatioAndMask) {
  TrajectoryView view = View();
  view.step = 1;
  view.advantage = 0.5;
  view.masked = true;
  view.tokens[2].logp_train = -0.5f;
  view.tokens[3].logp_train = -1.25f;
  EXPECT_EQ(
      Format(view),
      absl::StrCat(
          "episode 1, group 1, sample 0, trained in step 1, advantage 0.5\n",
          kHead,
          "     2       7  <7>                           -0.5          -0.5 "
          "         1    0       1\n"
          "     3       8  <8>                          -0.25         -1.25 "
          " 0.3678794    0       1\n"));
}

TEST(TokenViewTest, WhatWasNotTrainedLeavesItsColumnsEmpty) {
  const std::string blank(37, ' ');
  EXPECT_EQ(
      Format(View()),
      absl::StrCat("episode 1, group 1, sample 0\n", kHead,
                   "     2       7  <7>                           -0.5", blank,
                   "1\n"
                   "     3       8  <8>                          -0.25",
                   blank, "1\n"));
}

}  // namespace
}  // namespace temper
