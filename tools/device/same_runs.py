#!/usr/bin/env python3
"""Whether two runs are of the same bits: the digests of all weights that were
published, step by step, and no mismatch between sampler and learner in either.
  same_runs.py A/run.db B/run.db"""

import sqlite3
import sys

MISMATCH = "train_rollout_logprob_abs_diff/"


def read(path):
  """step -> digest of its weights; step -> (greatest mismatch, its tokens)."""
  with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
    weights = dict(db.execute(
        "SELECT step, hex(sha256) FROM lineage_weight_version ORDER BY step"))
    mismatch = {
        step: (greatest, tokens) for step, greatest, tokens in db.execute(
            "SELECT a.step, a.value, b.value FROM lineage_metric a "
            "JOIN lineage_metric b ON a.step = b.step "
            "WHERE a.name = ? AND b.name = ? ORDER BY a.step",
            (MISMATCH + "max", MISMATCH + "tokens"))}
    return weights, mismatch


def main(paths):
  failed = False
  runs = [read(path) for path in paths]
  for path, (weights, mismatch) in zip(paths, runs):
    for step, (greatest, tokens) in mismatch.items():
      print(f"{path}: step {step}: mismatch {greatest} over "
            f"{tokens or 0:.0f} tokens")
      failed |= greatest != 0 or not tokens
    if len(set(weights.values())) < 2 or not mismatch:
      print(f"{path}: nothing was trained")
      failed = True
  (a, _), (b, _) = runs
  for step in sorted(a.keys() | b.keys()):
    same = a.get(step) == b.get(step)
    print(f"step {step}: weights {a.get(step)} {'=' if same else '!='} "
          f"{b.get(step)}")
    failed |= not same
  return 1 if failed else 0


if __name__ == "__main__":
  if len(sys.argv) != 3:
    sys.exit(__doc__)
  sys.exit(main(sys.argv[1:]))
