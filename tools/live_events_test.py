#!/usr/bin/env python3
"""What happens to a worker is in run.db while the run goes on: kills one in the
middle of a run and reads of its restart before the run ends."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

TEMPER = os.path.abspath(sys.argv[1])
MODEL = os.path.abspath(sys.argv[2])
RUNS = os.path.join(os.environ["TEST_TMPDIR"], "runs")
DEADLINE_S = 90


def ask(sql):
  """Rows of the run's database; none before it is there."""
  try:
    database = sqlite3.connect("file:%s/live/run.db?mode=ro" % RUNS, uri=True)
    try:
      return database.execute(sql).fetchall()
    finally:
      database.close()
  except sqlite3.OperationalError:
    return []


def within_deadline(train, what, rows):
  deadline = time.monotonic() + DEADLINE_S
  while not rows():
    if train.poll() is not None:
      sys.exit("the run ended (%d) before %s" % (train.returncode, what))
    if time.monotonic() > deadline:
      sys.exit("not in %d s: %s" % (DEADLINE_S, what))
    time.sleep(0.02)


def expect_state(state):
  shown = json.loads(subprocess.run(
      [TEMPER, "status", "live", "--runs-dir", RUNS, "--json"],
      stdout=subprocess.PIPE, check=True).stdout)
  no_eta_where_none = state != "stopped" or shown["eta_seconds"] is None
  if shown["state"] != state or not no_eta_where_none:
    sys.exit("status says %s, %s s left; the run is %s" % (
        shown["state"], shown["eta_seconds"], state))


def worker_of(train):
  listed = subprocess.run(["pgrep", "-P", str(train.pid), "-f", " rollout "],
                          capture_output=True, text=True, check=False)
  return int(listed.stdout.split()[0])


def main():
  train = subprocess.Popen(
      [TEMPER, "train", "--name", "live", "--runs-dir", RUNS, "--steps", "500",
       "--set", "model=" + MODEL, "--set", "tasks=quickstart",
       "--set", "prompts_per_step=2", "--set", "group_size=4",
       "--set", "max_tokens=24", "--set", "eval_tasks=1"])
  try:
    within_deadline(train, "its first step",
                    lambda: ask("SELECT 1 FROM lineage_step"))
    os.kill(worker_of(train), signal.SIGKILL)
    restarted = ("SELECT kind, detail FROM event WHERE process = 'worker-0' "
                 "AND kind IN ('failed', 'restarting') ORDER BY id")
    within_deadline(train, "run.db told of the restart", lambda: [
        kind for kind, _ in ask(restarted) if kind == "restarting"])
    events = ask(restarted)
    kind, detail = events[0]
    if kind != "failed" or not detail.startswith("signal 9 (SIGKILL"):
      sys.exit("the first event is %r" % (events[0],))
    expect_state("running")
    if ask("SELECT max(step) FROM lineage_step")[0][0] == 500:
      sys.exit("the run was over")
    train.send_signal(signal.SIGINT)
    code = train.wait(DEADLINE_S)
    if code != 0:
      sys.exit("exit %d after Ctrl-C" % code)
    expect_state("stopped")
    after = ask(restarted)
    if len(after) != len(set(after)):
      sys.exit("an event is there twice: %r" % after)
  finally:
    train.kill()


main()
