#!/usr/bin/env python3
"""Every verb that reports prints one JSON document with --json, by the names of
run.db, and nothing else on stdout. Runs `temper train` on the shipped model for
two short steps and asks about that run."""

import json
import os
import shutil
import sqlite3
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                ".."))
from verb_trial import *

SHORT = ["--set", "tasks=quickstart", "--set", "eval_tasks=2",
         "--set", "max_tokens=24", "--set", "max_turns=2", "--seed", "3"]


def run(*args, code=0, cwd=HOME):
  """stdout."""
  return temper(code, *args, cwd=cwd)[0]


def document(*args, code=0):
  text = run(*args, "--json", code=code)
  try:
    return json.loads(text)
  except ValueError as error:
    failures.append("temper %s --json: %s in %r" % (
        " ".join(args), error, text[:200]))
    finish()


def check_config():
  every = document("config", "explain")["keys"]
  keys = {key["name"]: key for key in every if key["verb"] == "train"}
  expect("default of group_size", keys["group_size"]["default"], "8")
  expect("default of model", keys["model"]["default"], None)
  one = document("config", "explain", "kl_coef")["keys"]
  expect("keys explained", [key["name"] for key in one], ["kl_coef"])
  expect("defaults of weight_decay",
         [(key["verb"], key["default"])
          for key in document("config", "explain", "weight_decay")["keys"]],
         [("train", "0"), ("sft", "0.05")])
  values = document("config", "resolve", "--set", "model=m", "--set", "tasks=t",
                    "--set", "steps=9", "--seed", "18446744073709551615",
                    "--set", "environments=math,example",
                    "--set", "minibatches=2",
                    "--set", "off_policy_mask_threshold=inf",
                    "--set", "domain=math:0.5")
  expect("keys resolved", set(values), set(keys) - {
      "domain_name", "domain_kl_coef", "domain_weight"} | {"domain"})
  expect("steps", values["steps"], 9)
  expect("seed", values["seed"], 18446744073709551615)
  expect("environments", values["environments"], ["math", "example"])
  expect("threshold", values["off_policy_mask_threshold"], "inf")
  expect("keep_routing", values["keep_routing"], True)
  expect("model", values["model"], "m")
  expect("domain", values["domain"],
         [{"domain_name": "math", "domain_kl_coef": 0.5, "domain_weight": 0}])


def check_environments(tasks):
  listed = {facts["environment"]: facts
            for facts in document("env", "list")["environments"]}
  expect("interpreter served in", listed["interpreter"]["served_in"],
         "env-host")
  expect("math needs a sandbox", listed["math"]["needs_sandbox"], False)
  tested = document("env", "test", "math", "--tasks", tasks, "--count", "2")
  expect("other tasks", tested.pop("other_tasks") > 0, True)
  expect("env test", tested, {"environment": "math", "tasks": 2})


def check_models():
  made = document("generate", MODEL, "--prompt", "what is 1 + 1?",
                  "--samples", "2", "--max-tokens", "4", code=1)
  expect("samples", [sample["sample"] for sample in made["samples"]], [0, 1])
  expect("outcomes", {sample["outcome"] for sample in made["samples"]},
         {"TRUNCATED"})
  for more in [], ["--without-tools"]:
    found = document("eval", MODEL, *SHORT, "--samples", "2", *more)
    expect("without_tools", found["without_tools"], bool(more))
    for one in found["environments"]:
      expect("episodes", one["episodes"] + one["without_verdict"], 4)
      expect("k", [rate["k"] for rate in one["pass_at_k"]], [1, 2])
    expect("environments", [one["environment"]
                            for one in found["environments"]],
           ["interpreter", "math"])


def check_run(runs):
  expect("runs", [row["name"] for row in document(
      "inspect", "runs", "--runs-dir", runs)["runs"]], ["trial"])
  database = sqlite3.connect("file:%s/trial/run.db?mode=ro" % runs, uri=True)
  ask = lambda sql: database.execute(sql).fetchall()
  where = ("trial", "--runs-dir", runs)

  steps = document("inspect", "steps", *where)
  expect("steps", [step["step"] for step in steps["steps"]], [1, 2])
  expect("metrics", steps["steps"][1]["metrics"],
         dict(ask("SELECT name, value FROM lineage_metric WHERE step = 2")))
  expect("evaluations", [(one["step"], one["environment"], one["episodes"])
                         for one in steps["evaluations"]],
         [(0, "interpreter", 2), (0, "math", 2), (2, "interpreter", 2),
          (2, "math", 2)])

  status = document("status", *where)
  expect("name", (status["name"], status["seed"], status["steps"]),
         ("trial", 3, 2))
  expect("last step", status["last_step"], steps["steps"][1])
  expect("samples", status["samples"], {"trained": 16})
  expect("evaluated", status["eval_samples"], {"received": 8})
  expect("state", status["state"], "finished")
  text = run("status", *where)
  for bad in " , ", ", ,":
    expect("%r in status" % bad, bad in text, False)
  # Killed in its last evaluation, it has something left to do.
  cut = os.path.join(runs, "cut")
  shutil.copytree(os.path.join(runs, "trial"), cut)
  with sqlite3.connect(os.path.join(cut, "run.db")) as db:
    db.execute("DELETE FROM metric WHERE step = 2 AND name = 'eval/dropped'")
  expect("state", document("status", cut)["state"], "stopped")
  shutil.rmtree(cut)
  # A run is no directory of runs, and its other files are no runs.
  run("inspect", "runs", "--runs-dir", os.path.join(runs, "trial"), code=2)
  run("status", os.path.join(runs, "trial", "tasks.jsonl"), code=2)
  expect("events", ask("SELECT at_us, process, kind, detail FROM event "
                       "ORDER BY id DESC LIMIT 1"),
         [tuple(status["events"][-1].values())])

  waits = document("inspect", "waits", *where)
  expect("waits", len(waits["waits"]), ask("SELECT count(*) FROM wait")[0][0])
  expect("calls", [(one["environment"], one["kind"], one["calls"],
                    one["run"]["max_us"]) for one in waits["calls"]],
         ask("SELECT environment, kind_name, count(*), max(run_us) FROM "
             "named_environment_call c JOIN episode e ON e.id = c.episode "
             "GROUP BY environment, kind ORDER BY environment, kind"))
  expect("graded", sum(one["calls"] for one in waits["calls"]
                       if one["kind"] == "GRADE"),
         ask("SELECT count(*) FROM episode")[0][0])

  group = document("inspect", "group", *where, "1")
  expect("states", [(one["sample"], one["state"]) for one in group["samples"]],
         [(i, "trained") for i in range(4)])
  expect("rewards", [(one["episode"], one["reward"])
                     for one in group["samples"]],
         ask("SELECT l.episode, e.reward FROM ledger l JOIN episode e "
             "ON e.id = l.episode WHERE l.grp = 1 ORDER BY l.sample"))

  episode = group["samples"][0]["episode"]
  told = document("inspect", "trajectory", *where, str(episode))
  expect("group", (told["grp"], told["sample"], told["step"]), (1, 0, 1))
  sampled = [token for token in told["tokens"] if token["sampled"]]
  expect("sampled", len(sampled),
         ask("SELECT sum(length(logprobs) / 4) FROM branch WHERE episode = %d"
             % episode)[0][0])
  for token in sampled:
    expect("logp of position %d" % token["position"], token["logp_train"],
           token["logp_rollout"])
    expect("ratio", (token["ratio"], token["mask"]), (1, 1))
  expect("unsampled", told["tokens"][0]["logp_rollout"], None)


def main():
  runs = os.path.join(HOME, "runs")
  check_config()
  # Run from its own directory, with paths relative to it.
  os.symlink(MODEL, os.path.join(HOME, "model"))
  run("train", "--name", "trial", "--runs-dir", "runs", "--set", "model=model",
      "--steps", "2", "--set", "prompts_per_step=2", "--set", "group_size=4",
      *SHORT)
  check_run(runs)
  # A run goes on from any directory.
  run("train", "--resume", os.path.join(runs, "trial"), "--steps", "3",
      cwd="/")
  expect("steps after a resume", [step["step"] for step in document(
      "inspect", "steps", "trial", "--runs-dir", runs)["steps"]], [1, 2, 3])
  check_environments(os.path.join(runs, "trial", "tasks.jsonl"))
  check_models()
  found = document("doctor")
  expect("doctor", (found["good"], len(found["findings"])), (True, 7))
  # What fails prints no document.
  expect("stdout", run("status", "none", "--runs-dir", runs, "--json", code=2),
         "")
  finish()


main()
