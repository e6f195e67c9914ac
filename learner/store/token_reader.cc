#include "learner/store/token_reader.h"

#include <cmath>
#include <cstddef>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "learner/store/sqlite.h"
#include "proto/wire/packed_array.h"

namespace temper {
namespace {

// Appends one branch's tokens; `span_rows` are (begin, end, version).
absl::Status AddBranch(int64_t branch, const SqlRow& row,
                       const std::vector<SqlRow>& span_rows,
                       TrajectoryView* view) {
  const std::vector<int32_t> ids = UnpackArray<int32_t>(row[0].AsString());
  const std::string& sampled = row[1].AsString();
  const std::vector<float> logps = UnpackArray<float>(row[2].AsString());
  size_t n = 0;
  for (size_t t = 0; t < ids.size(); ++t) {
    TokenView token;
    token.branch = branch;
    token.position = static_cast<int64_t>(t);
    token.id = ids[t];
    token.sampled = PackedBit(sampled, t);
    if (token.sampled) {
      // Told below, with both numbers: an array that is cut short must not
      // shift the others.
      if (n >= logps.size()) break;
      token.logp_rollout = logps[n];
      for (const SqlRow& span : span_rows) {
        const auto index = static_cast<int64_t>(n);
        if (index >= span[0].AsInt() && index < span[1].AsInt()) {
          token.version = span[2].AsUint();
        }
      }
      ++n;
    }
    view->tokens.push_back(token);
  }
  if (n == logps.size()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "episode ", view->episode, " branch ", branch, ": ", logps.size(),
      " log-probabilities for ", n, " sampled tokens"));
}

// What training recorded of the sample, if this episode is the one trained.
absl::Status AddTraining(Transaction* transaction, TrajectoryView* view) {
  ASSIGN_OR_RETURN(const auto rows,
                   transaction->Query(
                       "SELECT r.step, r.advantage, r.masked, r.logp_train "
                       "FROM train_record r JOIN lineage_trained t "
                       "USING(attempt, step, grp, sample) "
                       "JOIN ledger l ON l.grp = r.grp AND l.sample = r.sample "
                       "WHERE r.grp = ? AND r.sample = ? AND l.episode = ?",
                       {view->group, view->sample, view->episode}));
  // A sample has several episodes where it was tried again; training was of the
  // one that the ledger points to.
  if (rows.empty()) return absl::OkStatus();
  view->step = rows[0][0].AsInt();
  view->advantage = rows[0][1].AsDouble();
  view->masked = rows[0][2].AsInt() != 0;
  const std::vector<float> logps = UnpackArray<float>(rows[0][3].AsString());
  size_t n = 0;
  for (TokenView& token : view->tokens) {
    // In the order of the record: sampled tokens of all branches, one after
    // another.
    if (token.sampled && n < logps.size()) token.logp_train = logps[n++];
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<double> TokenView::Ratio() const {
  if (!logp_train.has_value()) return std::nullopt;
  return std::exp(double{*logp_train} - double{*logp_rollout});
}

absl::StatusOr<TrajectoryView> ReadTrajectory(RunDb* db, int64_t episode) {
  ASSIGN_OR_RETURN(const auto transaction, db->sqlite()->Begin());
  ASSIGN_OR_RETURN(
      const auto episodes,
      transaction->Query("SELECT grp, sample FROM episode WHERE id = ?",
                         {episode}));
  if (episodes.empty()) {
    return absl::NotFoundError(absl::StrCat(
        "no episode ", episode, "; `temper inspect group` lists a group's"));
  }
  TrajectoryView view;
  view.episode = episode;
  view.group = episodes[0][0].AsUint();
  view.sample = static_cast<uint32_t>(episodes[0][1].AsInt());
  ASSIGN_OR_RETURN(const auto branches,
                   transaction->Query("SELECT tokens, sampled, logprobs "
                                      "FROM branch WHERE episode = ? "
                                      "ORDER BY branch",
                                      {episode}));
  for (size_t i = 0; i < branches.size(); ++i) {
    const auto branch = static_cast<int64_t>(i);
    ASSIGN_OR_RETURN(const auto spans,
                     transaction->Query("SELECT begin, end, version "
                                        "FROM version_span WHERE episode = ? "
                                        "AND branch = ?",
                                        {episode, branch}));
    RETURN_IF_ERROR(AddBranch(branch, branches[i], spans, &view));
  }
  RETURN_IF_ERROR(AddTraining(transaction.get(), &view));
  return view;
}

}  // namespace temper
