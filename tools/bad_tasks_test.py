#!/usr/bin/env python3
"""Tasks that can never run are refused by line before a process is started or a
directory made; what fits the model runs, however long its prompt. Through the
real binary, on the quickstart's model (4096 positions)."""

import ctypes
import json
import os
import resource
import signal
import sqlite3
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from verb_trial import *

DEADLINE_S = 60


def bar_new_processes():
  """From now on whoever forks is killed; threads may be made (seccomp)."""
  def op(code, jt, jf, k):
    return struct.pack("=HBBI", code, jt, jf, k)
  load_nr, load_flags = 0, 16  # of struct seccomp_data
  kill, allow, no_such = 0x80000000, 0x7fff0000, 0x00050000 | 38
  program = [
      op(0x20, 0, 0, load_nr),
      op(0x15, 6, 0, 57),        # fork
      op(0x15, 5, 0, 58),        # vfork
      op(0x15, 5, 0, 435),       # clone3: is tried first, then clone
      op(0x15, 0, 2, 56),        # clone
      op(0x20, 0, 0, load_flags),
      op(0x45, 0, 1, 0x10000),   # CLONE_THREAD
      op(0x06, 0, 0, allow),
      op(0x06, 0, 0, kill),
      op(0x06, 0, 0, no_such),
  ]
  code = ctypes.create_string_buffer(b"".join(program))
  class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
  libc = ctypes.CDLL(None, use_errno=True)
  if libc.prctl(38, 1, 0, 0, 0) != 0:  # PR_SET_NO_NEW_PRIVS
    os._exit(97)
  filter = Program(len(program), ctypes.addressof(code))
  if libc.prctl(22, 2, ctypes.byref(filter), 0, 0) != 0:  # PR_SET_SECCOMP
    os._exit(98)


def temper_alone(code, *args):
  """The same as temper, of a command that is to start no process. A sanitized
  one would start its search for leaks."""
  return temper(code, *args, preexec_fn=bar_new_processes,
                env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))


def query(path, sql):
  """Rows; none while there is no such file or table yet."""
  try:
    db = sqlite3.connect("file:%s?mode=ro" % path, uri=True, timeout=DEADLINE_S)
    try:
      return db.execute(sql).fetchall()
    finally:
      db.close()
  except sqlite3.OperationalError:
    return []


def within_deadline(condition):
  deadline = time.monotonic() + DEADLINE_S
  while not condition():
    if time.monotonic() > deadline:
      raise TimeoutError()
    time.sleep(0.05)


def settings(tasks, **more):
  values = dict(model=MODEL, tasks=tasks, steps=1, prompts_per_step=1,
                group_size=2, max_tokens=64, eval_tasks=1, **more)
  return [word for key, value in values.items()
          for word in ("--set", "%s=%s" % (key, value))]


def user(content="1 + 1?"):
  return {"role": "user", "content": content}


# A task and what is said of it, behind the file and the line.
BAD = [
    (task("b", payload_json='{"anwser": "2"}'),
     'task b: payload_json has the key "anwser"; its keys are answer, tools'),
    (task("b", payload_json='{"answer": 2}'),
     "task b: payload_json.answer is a number; it must be a string"),
    (task("b", environment="interpreter",
          payload_json='{"answer": "2", "table": {"k": 5}}'),
     'task b: payload_json.table["k"] is a number; it must be a string'),
    (task("b", payload_json="answer: 2"),
     "task b: payload_json is not JSON; its keys are answer, tools"),
    (task("b", environment="maths"),
     'task b: there is no environment "maths"; there are code, example, '),
    (task("b", split="test"), 'split is "test", not train or heldout'),
    (task("b", mesages=[]), "of fields id, environment, domain, split, mess"),
    (task("b", messages=[user(), {"role": "tool", "content": "4"}]),
     "task b: message 1 (role 'tool'): 1 results follow a message with 0 tool"),
    (task("b", messages=[user(), {"role": "robot", "content": "4"}]),
     "task b: message 1 (role 'robot') is the last: a prompt ends with"),
    (task("b", messages=[{"role": "robot", "content": "4"}, user()]),
     "task b: message 0 (role 'robot'): unknown role; known: system, "),
    (task("b", messages=[user(), {"role": "assistant", "content": "2",
                                  "reasoning_content": "add"}]),
     "task b: message 1 (role 'assistant') is the last: a prompt ends with a "
     "message of a user, developer or tool"),
    (task("b", messages=[{"role": "system", "content": "Be brief."}]),
     "task b: message 0 (role 'system') is the last"),
    (task("b", content="a b " * 3000),
     "with max_tokens 64 that is above 4096, the model's "
     "max_position_embeddings; shorten it"),
]


def check_each_kind():
  for i, (bad, said) in enumerate(BAD):
    path = write_tasks("bad.jsonl", [task("a"), bad, task("h", "heldout")])
    _, err = temper_alone(2, "train", "--name", "r%d" % i, *settings(path))
    expect_in("temper train: %s:2: " % path, err)
    expect_in(said, err)
    expect("lines of stderr", err.count("\n"), 1)
    expect("something was made", os.path.exists(HOME + "/runs"), False)
    # In an evaluation the task is one that is played.
    path = write_tasks("bad.jsonl", [task("a"), dict(bad, split="heldout")
                               if bad["split"] == "train" else bad])
    _, err = temper_alone(2, "eval", MODEL, *settings(path)[2:4], "--set",
                          "eval_tasks=1", "--set", "max_tokens=64")
    expect_in("temper eval: %s:2: " % path, err)
    expect_in(said, err)


def check_many():
  good = [task("g%d" % i) for i in range(30)] + [task("h", "heldout")]
  bad = [task("b%d" % i, payload_json="{}") for i in range(12)]
  path = write_tasks("many.jsonl", good + bad + [task("g0")])
  _, err = temper_alone(2, "train", "--name", "many", *settings(path))
  expect_in("%s: 13 of 44 tasks cannot run:\n  %s:32: task b0: " %
            (path, path), err)
  expect_in("%s:41: task b9: " % path, err)
  expect_in("\n  and 3 more\n", err)
  expect("lines of stderr", err.count("\n"), 12)
  _, err = temper_alone(2, "env", "test", "math", "--tasks", path)
  expect_in("13 of 44 tasks cannot run:", err)
  expect_in("%s:32: task b0: payload_json.answer is missing" % path, err)
  path = write_tasks("misspelt.jsonl", [task("a"), task("b", environment="mth"),
                                  task("c", environment="example")])
  _, err = temper_alone(2, "env", "test", "math", "--tasks", path)
  expect_in('%s:2: task b: there is no environment "mth"; there are' % path,
            err)
  path = write_tasks("others.jsonl", [task("a"), task("c", environment="example")])
  out, _ = temper(0, "env", "test", "math", "--tasks", path)
  expect("stdout", out, "math: 1 tasks keep its promises\n"
         "1 tasks of other environments were not looked at\n")
  path = write_tasks("end.jsonl", [task("a"), BAD[10][0]])
  _, err = temper_alone(2, "env", "test", "math", "--tasks", path)
  expect_in("task b: message 1 (role 'assistant') is the last", err)


def check_ten_thousand():
  """10^4 tasks of three environments are checked in 10 s; it is the processor's
  time that counts, so that what else the machine does is no matter."""
  kinds = (dict(), dict(environment="interpreter"), dict(
      environment="code", payload_json=json.dumps(
          {"entry_point": "f", "tests": [{"args": "1", "value": "2"}]})))
  path = write_tasks("many.jsonl", [task("g%d" % i, **kinds[i % 3])
                                    for i in range(10000)] +
               [task("b", payload_json="{}")])
  for verb in (["env", "test", "math", "--tasks", path],
               ["train", "--name", "many", *settings(path)]):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _, err = temper_alone(2, *verb)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    expect_in("%s:10001: task b: payload_json.answer is missing" % path, err)
    seconds = (after.ru_utime + after.ru_stime -
               before.ru_utime - before.ru_stime)
    if seconds > 10:
      failures.append("%s: %.1f s for 10^4 tasks" % (verb[0], seconds))


def check_the_bar():
  """It is the bar that a good run meets: it starts a process, then dies."""
  path = write_tasks("good.jsonl", [task("a"), task("h", "heldout")])
  temper_alone(-signal.SIGSYS, "train", "--name", "barred", *settings(path))
  expect("the run's directory", os.path.exists(HOME + "/runs/barred"), True)


def check_generate():
  _, err = temper_alone(2, "generate", MODEL, "--prompt", "a b " * 3000)
  expect_in("with max_tokens 256 that is above 4096", err)
  _, err = temper(2, "generate", MODEL, "--prompt", "a", "--max-tokens", "4095")
  expect_in("; shorten it, or lower max_tokens to 40", err)
  # Which leaves room for no prompt at all: no prompt is to blame.
  _, err = temper(2, "generate", MODEL, "--prompt", "a", "--max-tokens", "4096")
  expect_in("max_tokens is 4096, which leaves no room for a prompt within 4096, "
            "the model's max_position_embeddings; set it below 4096", err)


def check_long_prompt():
  """A prompt longer than the cache of so small a run, were it sized without."""
  model = copy_of_model("long")
  config = json.load(open(model + "/config.json"))
  config["max_position_embeddings"] = 8192
  json.dump(config, open(model + "/config.json", "w"))
  path = write_tasks("long.jsonl", [task("a", content="a b " * 3500)])
  values = settings(path, threads=2)
  values[values.index("model=" + MODEL)] = "model=" + model
  values[values.index("eval_tasks=1")] = "eval_tasks=0"
  values[values.index("max_tokens=64")] = "max_tokens=8"
  out, _ = temper(0, "train", "--name", "long", *values)
  expect_in("step   1/1", out)
  expect_in("the longest prompt has 7", out)


def check_other_tasks():
  """A resume of that run with a task more is refused and changes nothing."""
  run = os.path.join(HOME, "runs", "long")
  config = open(run + "/config.textproto").read()
  tasks = open(run + "/tasks.jsonl").read()
  with open(run + "/tasks.jsonl", "a") as out:
    out.write(json.dumps(task("more")) + "\n")
  _, err = temper_alone(2, "train", "--resume", run, "--steps", "2")
  expect_in("%s/tasks.jsonl has changed since the run began: " % run, err)
  expect("config", open(run + "/config.textproto").read(), config)
  # As it was, it goes on: here, to where it is.
  with open(run + "/tasks.jsonl", "w") as out:
    out.write(tasks)
  temper(0, "train", "--resume", run)


def check_warnings():
  """What only running shows, as the learner records it: a warning a task, ten at
  most, and the final table. The test writes the rows in its stead."""
  path = write_tasks("good.jsonl", [task("a"), task("h", "heldout")])
  values = settings(path, threads=1)
  values[values.index("steps=1")] = "steps=5000"
  train = subprocess.Popen([TEMPER, "train", "--name", "warned", *values],
                           cwd=HOME, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
  run_db = os.path.join(HOME, "runs", "warned", "run.db")
  try:
    within_deadline(lambda: query(run_db, "SELECT 1 FROM step"))
    with sqlite3.connect(run_db, timeout=DEADLINE_S) as db:
      db.executemany(
          "INSERT INTO task_failure(attempt, task_id, environment, reason, "
          "at_us) VALUES (1, ?, 'math', 'it\nbroke', 0)",
          [("b: %d" % i,) for i in range(12)])
    seen = query(run_db, "SELECT max(step) FROM step")[0][0]
    within_deadline(lambda: query(run_db, "SELECT max(step) FROM step")[0][0] >
                    seen + 1)
    train.send_signal(signal.SIGINT)
    out, err = train.communicate(timeout=DEADLINE_S)
  finally:
    train.kill()
  expect("exit code", train.returncode, 0)
  for i in range(10):
    expect("warnings of b: %d" % i,
           err.count("warning: task b: %d of math: it\\nbroke\n" % i), 1)
  expect("warnings", err.count("warning: task"), 10)
  expect("the count", err.count("warning: 12 tasks got no reward so far"), 1)
  expect_in("\ntasks that got no reward: 12\n  task b: 0 of math: it\\nbroke\n",
            out)
  expect_in("\n  and 2 more\n", out)


def main():
  check_each_kind()
  check_many()
  check_ten_thousand()
  check_generate()
  check_the_bar()
  check_long_prompt()
  check_other_tasks()
  check_warnings()
  finish()


main()
