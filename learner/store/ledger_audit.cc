// Ledger::Audit: each query finds what must not be there.

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "learner/store/ledger.h"

namespace temper {
namespace {

struct Claim {
  const char* broken;  // what a found row means
  const char* query;   // yields (grp, sample) of what breaks it
};

constexpr Claim kClaims[] = {
    {"a group does not have exactly its samples",
     "SELECT grp, count(sample) FROM grp LEFT JOIN ledger USING(grp) "
     "GROUP BY grp HAVING count(sample) <> size OR min(sample) <> 0 OR "
     "max(sample) <> size - 1"},
    {"a sample was trained twice in the surviving lineage",
     "SELECT grp, sample FROM lineage_trained GROUP BY grp, sample "
     "HAVING count(*) > 1"},
    {"a trained sample is in no surviving step",
     "SELECT grp, sample FROM ledger l WHERE state = 'trained' AND NOT EXISTS "
     "(SELECT 1 FROM lineage_trained t WHERE t.grp = l.grp AND "
     "t.sample = l.sample AND t.step = l.step AND t.attempt = l.attempt)"},
    {"a surviving step trained what the ledger does not call trained",
     "SELECT grp, sample FROM lineage_trained t WHERE NOT EXISTS "
     "(SELECT 1 FROM ledger l WHERE l.grp = t.grp AND l.sample = t.sample AND "
     "l.state = 'trained')"},
    {"an evaluation sample was reserved or trained",
     "SELECT grp, sample FROM ledger JOIN grp USING(grp) WHERE purpose <> 1 "
     "AND state IN ('reserved', 'trained')"},
    {"a sample is reserved for a step that is over or an attempt that is",
     "SELECT grp, sample FROM ledger WHERE state = 'reserved' AND "
     "(step <= coalesce((SELECT max(step) FROM lineage_step), 0) OR "
     "attempt <> (SELECT max(attempt) FROM attempt))"},
    {"a sample counts without a rewarded episode of its own",
     "SELECT l.grp, l.sample FROM ledger l LEFT JOIN episode e ON "
     "e.id = l.episode WHERE l.state IN ('received', 'reserved', 'trained') "
     "AND (e.reward IS NULL OR e.grp <> l.grp OR e.sample <> l.sample)"},
    {"a group is trained in part",
     "SELECT grp, min(sample) FROM ledger GROUP BY grp HAVING "
     "sum(state = 'trained') > 0 AND (sum(state = 'trained') < count(*) OR "
     "min(step) <> max(step))"},
    {"a step does not have as many samples as it says",
     "SELECT s.step, s.samples FROM step s WHERE s.samples <> (SELECT "
     "count(*) FROM trained t WHERE t.attempt = s.attempt AND "
     "t.step = s.step)"},
    {"the surviving steps are not 1, 2, 3 and on",
     "SELECT count(*), max(step) FROM lineage_step "
     "HAVING count(*) <> coalesce(max(step), 0)"},
};

}  // namespace

absl::Status Ledger::Audit() {
  ASSIGN_OR_RETURN(auto transaction, db_->sqlite()->Begin());
  for (const Claim& claim : kClaims) {
    ASSIGN_OR_RETURN(const auto rows, transaction->Query(claim.query));
    if (!rows.empty()) {
      return absl::DataLossError(absl::StrCat(
          "ledger audit: ", claim.broken, ": (", rows[0][0].AsInt(), ", ",
          rows[0][1].AsInt(), ") and ", rows.size() - 1, " more"));
    }
  }
  return absl::OkStatus();
}

}  // namespace temper
