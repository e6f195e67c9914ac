#!/usr/bin/env python3
"""An environment of the user's own, in Python: from `temper env init` to a run
that trains on it while its program is killed, and what is told of one that is
not as it should be. Through the real binary, on the quickstart's model."""

import os
import re
import signal
import socket
import sqlite3
import sys
import time
import xml.etree.ElementTree as ET

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from verb_trial import *

DEADLINE_S = 200
README = os.path.abspath(sys.argv[3])


def skip_without_grpc():
  """Debian's Python, which environments are started with, is to have gRPC."""
  if subprocess.run(["/usr/bin/python3", "-c", "import grpc"],
                    capture_output=True).returncode == 0:
    return
  suite = ET.Element("testsuite", name="registered_environment_test")
  case = ET.SubElement(suite, "testcase", name="registered_environment_test")
  ET.SubElement(case, "skipped",
                message="python3-grpcio is not installed; run tools/setup.sh")
  ET.ElementTree(suite).write(os.environ["XML_OUTPUT_FILE"])
  sys.exit(0)


def program(name, *changes):
  """environment.py of the directory `name`, as init wrote it but for
  `changes`: (old, new), each to be found."""
  path = os.path.join(HOME, name, "environment.py")
  with open(path) as file:
    text = file.read()
  for old, new in changes:
    if old not in text:
      sys.exit("%s has no %r" % (path, old))
    text = text.replace(old, new)
  with open(path, "w") as file:
    file.write(text)
  return text


def variant(name, *changes):
  """A new environment `name` that differs from what init writes."""
  temper(0, "env", "init", name)
  program(name, *changes)
  return os.path.join(HOME, name, "tasks.jsonl")


def test_words():
  out, _ = temper(0, "env", "init", "words")
  expect_in("temper env register words --directory words", out)
  if len(program("words").splitlines()) > 60:
    failures.append("environment.py has more than 60 lines")
  _, err = temper(2, "env", "init", "words")
  expect_in("words exists; name a new directory", err)
  _, err = temper(2, "env", "init", "math")
  expect_in("environment math is built in", err)
  _, err = temper(2, "env", "init", "Words")
  expect_in('"Words" is no name of an environment', err)

  _, err = temper(2, "env", "test", "words", "--tasks", "words/tasks.jsonl")
  expect_in('there is no environment "words"', err)
  out, _ = temper(0, "env", "register", "words")
  expect_in("a sum, and a tool that adds; served by python3 environment.py in "
            + os.path.join(HOME, "words"), out)
  out, _ = temper(0, "env", "list")
  expect_in("(python3 environment.py in " + HOME, out)
  listed = json.loads(temper(0, "env", "list", "--json")[0])["environments"]
  mine = [one for one in listed if one["environment"] == "words"]
  expect("words in the list", mine, [{
      "environment": "words", "description": "a sum, and a tool that adds",
      "deterministic": True, "needs_sandbox": False, "served_in": "registered",
      "open_steps": False,
      "limits_ms": {"reset": 10000, "step": 10000, "grade": 10000},
      "where": "python3 environment.py in " + os.path.join(HOME, "words")}])

  out, _ = temper(0, "env", "validate", "words", "words/tasks.jsonl")
  expect_in("words: 320 tasks can run", out)
  bad = write_tasks("bad.jsonl", [
      task("a", environment="words"),
      task("b", environment="words", payload_json="{}")])
  _, err = temper(2, "env", "validate", "words", bad)
  expect_in("bad.jsonl:2: task b: ", err)
  expect_in('a task has messages and {"answer": "5"}', err)

  # Checking tells how far it is, where it takes long.
  slow = variant("slow", ("def Validate(self, request, context, reply="
                          "e.ValidateResponse):",
                          "def Validate(self, request, context, reply="
                          "e.ValidateResponse):\n    import time; "
                          "time.sleep(0.8)"))
  temper(0, "env", "register", "slow")
  with open(slow) as file:
    few = write_tasks("few.jsonl", [json.loads(file.readline())
                                    for _ in range(4)])
  _, err = temper(0, "env", "validate", "slow", few)
  expect_in("checking tasks: ", err)

  test = ["env", "test", "words", "--tasks", "words/tasks.jsonl", "--count",
          "3", "--transcript", "golden.txt"]
  out, _ = temper(0, *test)
  expect_in("words: 3 tasks keep its promises", out)
  expect_in("golden.txt is made", out)
  out, _ = temper(0, *test)
  if "golden.txt is made" in out:
    failures.append("the transcript is made again")
  program("words", ("str(a + b)", "str(a - b)"))
  _, err = temper(1, *test)
  expect_in("golden.txt has another transcript, from", err)
  program("words", ("str(a - b)", "str(a + b)"))
  temper(0, *test)


def free_port():
  with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    return one.getsockname()[1]


def test_an_address():
  """A host that somebody else starts."""
  variant("far")
  address = "127.0.0.1:%d" % free_port()
  host = subprocess.Popen(["/usr/bin/python3", "environment.py", address],
                          cwd=os.path.join(HOME, "far"))
  try:
    within_deadline("a host at " + address, lambda: subprocess.run(
        [TEMPER, "env", "register", "far", "--address", address], cwd=HOME,
        capture_output=True).returncode == 0)
    out, _ = temper(0, "env", "test", "far", "--tasks", "far/tasks.jsonl",
                    "--count", "1")
    expect_in("far: 1 tasks keep its promises", out)
    expect_in("far: a sum", temper(0, "env", "register", "far", "--address",
                                   address)[0])
  finally:
    host.kill()
    host.wait()
  _, err = temper(1, "env", "validate", "far", "far/tasks.jsonl")
  expect_in("environment far at " + address, err)


def test_walls():
  """What a program may do is looked at by one that says it."""
  look = '''
def tried(what):
  try: what(); return "done"
  except Exception as fault: return type(fault).__name__
import os, socket
print("|".join([
    tried(lambda: open("mine", "w")), tried(lambda: open("/tmp/x", "w")),
    tried(lambda: open("/etc/passwd")), tried(lambda: open("/usr/x", "w")),
    tried(lambda: socket.create_connection(("127.0.0.1", 1), 1)),
    str(len(os.listdir("/run/temper"))), ",".join(sorted(
        name for name in os.environ if name.startswith("TE")))]), file=sys.stderr)
sys.exit(3)
'''
  variant("walled", ("ADD = ", look + "\nADD = "))
  _, err = temper(1, "env", "register", "walled", env=dict(os.environ, TEST_SECRET="1"))
  expect_in("environment walled: `python3 environment.py` ended, exit 3; its "
            "last line: OSError|FileNotFoundError|FileNotFoundError|OSError|"
            "ConnectionRefusedError|0|", err)


def test_init_leaves_nothing_half_made():
  """`false` in the place of the plugin, as only a namespace can have it."""
  done = subprocess.run(
      ["bwrap", "--bind", "/", "/", "--ro-bind", "/usr/bin/false",
       "/usr/bin/grpc_python_plugin", TEMPER, "env", "init", "half"], cwd=HOME,
      capture_output=True, text=True, timeout=COMMAND_SECONDS)
  expect("exit without stubs", done.returncode, 1)
  expect_in("protoc made no stubs in half/proto", done.stderr)
  expect("half is left", os.path.exists(os.path.join(HOME, "half")), False)


def test_broken_ones():
  variant("dying", ("ADD = ", "raise SystemExit('no data here')\nADD = "))
  _, err = temper(1, "env", "register", "dying")
  expect_in("environment dying: `python3 environment.py` ended, exit 1; its "
            "last line: no data here", err)
  _, err = temper(2, "env", "register", "math", "--directory", "dying")
  expect_in("environment math is built in, and a registration may not take its "
            "place", err)
  _, err = temper(2, "env", "register", "other", "--directory", "words")
  expect_in("environment other is not what is served: it is words", err)
  _, err = temper(1, "env", "register", "far", "--address", "127.0.0.1:1")
  expect_in("environment far at 127.0.0.1:1", err)
  _, err = temper(2, "env", "register", "far", "--address", "10.0.0.1:7000")
  expect_in("is not loopback", err)
  _, err = temper(2, "env", "register", "gone", "--directory", "nowhere")
  expect_in("there is no directory " + os.path.join(HOME, "nowhere"), err)

  lies = {
      "clock": (("content=str(a + b)",
                 "content=str(__import__('time').time_ns())"),
                "it says that it is deterministic, and the same seed gave"),
      "kind": (("correct=said == truth", "correct=True"),
               "no answer at all is graded correct"),
      "paid": (("value=same / max(len(said), len(truth))", "value=1"),
               "no answer at all is paid: score digits is 1 of weight 1"),
      "order": (("results=[answer(call) for call in request.calls]",
                 "results=[answer(call) for call in request.calls[::-1]]"),
                "results are to be in the order of the calls"),
      "shape": (('"parameters": {"type":', '"parameters": [], "": {"type":'),
                'parameters of tool "add" are no JSON object'),
      "lying": (("value=same / max(len(said), len(truth))", "value=1e9"),
                "score digits is 1e+09 of weight 1"),
      "nan": (("value=same / max(len(said), len(truth))",
               "value=float('nan')"), "score digits is nan of weight 1"),
      "lax": (('context.abort(REFUSED, "more than 16 calls")', "pass"),
              "a Step of 17 calls is no InvalidArgument"),
      "turn": (("results=[answer(call) for call in request.calls]",
                "results=[answer(call) for call in request.calls] * 2"),
               "2 results of 1 calls"),
      "open": (("if not request.task.messages or not truth_of(request.task)",
                "if False"), "a task whose payload_json is"),
      "dies": (("def answer(call):", "def answer(call):\n"
                "  import os; print('no more', file=sys.stderr); os._exit(4)"),
               "` ended, exit 4; its last line: no more"),
      "hung": (("reset_ms=10000, step_ms=10000", "step_ms=300"),
               "no answer within 300 ms"),
  }
  for name, (change, told) in lies.items():
    more = [("def answer(call):", "def answer(call):\n  import time; "
             "time.sleep(3)\n\ndef _(call):")] if name == "hung" else []
    tasks = variant(name, change, *more)
    temper(0, "env", "register", name)
    _, err = temper(1, "env", "test", name, "--tasks", tasks, "--count", "1")
    expect_in(told, err)


def test_one_that_does_not_answer():
  """Whoever serves it for a run ends it, and says why."""
  variant("mute", ("reset_ms=10000, step_ms=10000, grade_ms=10000",
                   "reset_ms=1, step_ms=1, grade_ms=1"),
          ("def Describe(self, request, context):",
           "def Describe(self, request, context):\n    asked.append(1)\n"
           "    while len(asked) > 1: __import__('time').sleep(1)"),
          ("truths = {}", "asked = []\ntruths = {}"))
  temper(0, "env", "register", "mute")
  _, err = temper(1, "env", "serve", "mute", "--address-file", "mute.address")
  expect_in("environment mute did not answer for 1", err)
  if not os.path.exists(os.path.join(HOME, "mute.address")):
    failures.append("mute was never served")


def served(name):
  """`temper env serve` of `name`, which serves."""
  address = os.path.join(HOME, name + ".address")
  serve = subprocess.Popen(
      [TEMPER, "env", "serve", name, "--address-file", address], cwd=HOME,
      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
  within_deadline(name + " is served", lambda: os.path.exists(address))
  return serve


def test_one_that_is_busy_is_not_one_that_hangs():
  """One thread, and calls within its limit, behind which Describe waits; and a
  stop is heard while it does."""
  limits = "reset_ms=10000, step_ms=10000, grade_ms=10000"
  for name, limit, pause_s in (("busy", 4000, 3.5), ("waiting", 30000, 600)):
    variant(name, (limits, limits.replace("10000", str(limit))),
            ("def Describe(self, request, context):",
             "def Describe(self, request, context):\n    asked.append(1)\n"
             "    if len(asked) > 1: print('asked', file=sys.stderr); "
             "__import__('time').sleep(%s)" % pause_s),
            ("truths = {}", "asked = []\ntruths = {}"))
    temper(0, "env", "register", name)
  busy, waiting = served("busy"), served("waiting")
  try:
    for line in waiting.stderr:
      if line == "asked\n":
        break
    waiting.terminate()
    expect("waiting, stopped", waiting.wait(20), 0)
    # After 20 s, which is longer than its longest call and 10 s.
    asked = 0
    for line in busy.stderr:
      asked += line == "asked\n"
      if asked == 4:
        break
    expect("how often busy was asked", asked, 4)
    busy.terminate()
    expect("busy, stopped", busy.wait(20), 0)
  finally:
    for serve in (busy, waiting):
      serve.kill()
      serve.wait()


def descendants(pid):
  """Pids of all processes below `pid`."""
  children = {}
  for entry in os.listdir("/proc"):
    if entry.isdigit():
      try:
        with open("/proc/%s/stat" % entry) as file:
          parent = int(file.read().rsplit(")", 1)[1].split()[1])
        children.setdefault(parent, []).append(int(entry))
      except (OSError, IndexError):
        pass
  found = list(children.get(pid, []))
  for one in found:
    found += children.get(one, [])
  return found


def program_of(train):
  for pid in descendants(train.pid):
    try:
      with open("/proc/%d/cmdline" % pid, "rb") as file:
        words = file.read().split(b"\0")
    except OSError:
      continue
    if words[:2] == [b"python3", b"environment.py"]:
      return pid
  return None


def query(path, sql):
  if not os.path.exists(path):
    return []
  try:
    db = sqlite3.connect("file:%s?mode=ro" % path, uri=True, timeout=10)
    try:
      return db.execute(sql).fetchall()
    finally:
      db.close()
  except sqlite3.OperationalError:
    return []


def within_deadline(what, done):
  until = time.monotonic() + DEADLINE_S
  while not done():
    if time.monotonic() > until:
      sys.exit("%s did not come within %d s" % (what, DEADLINE_S))
    time.sleep(0.1)


def socket_of(run):
  """Of the program that serves words to `run` now."""
  with open(os.path.join(HOME, "runs", run, "environment-words.address")) as file:
    return file.read().removeprefix("unix:")


RUN = ["--set", "model=" + MODEL, "--set", "prompts_per_step=2", "--set",
       "group_size=4", "--set", "max_tokens=48", "--set", "eval_tasks=2"]


def test_run_survives_its_death():
  log = open(os.path.join(HOME, "train.out"), "w+")
  train = subprocess.Popen(
      [TEMPER, "train", "--name", "killed", "--set", "tasks=words/tasks.jsonl",
       "--set", "steps=6", *RUN], cwd=HOME, stdout=log,
      stderr=subprocess.STDOUT)
  db = os.path.join(HOME, "runs/killed/run.db")
  try:
    within_deadline("the first step",
                    lambda: query(db, "SELECT 1 FROM lineage_step"))
    victim = program_of(train)
    sockets = [socket_of("killed")]
    os.kill(victim, signal.SIGKILL)
    within_deadline("another program", lambda: program_of(train) not in
                    (None, victim) and socket_of("killed") not in sockets)
    sockets.append(socket_of("killed"))
    code = train.wait(DEADLINE_S)
  finally:
    train.kill()
    train.wait()
  log.seek(0)
  said = log.read()
  if code != 0:
    sys.exit("the run ended with exit %d\n%s" % (code, said[-3000:]))
  expect_in("words (python3 environment.py in %s/words)" % HOME, said)
  expect_in("reads /usr and its directory", said)
  expect_in("environment-words failed: exit 1", said)
  expect_in("environment-words restarting: in 500 ms, 1 so far", said)
  expect("steps", query(db, "SELECT count(*) FROM lineage_step"), [(6,)])
  # Each of a step's samples once, whatever became of those that its death cost.
  expect("samples", query(
      db, "SELECT count(*), count(DISTINCT grp || '/' || sample) FROM "
      "lineage_trained"), [(48, 48)])
  # What it was registered with is the run's own by now.
  os.rename(os.path.join(HOME, "environments.jsonl"),
            os.path.join(HOME, "away.jsonl"))
  os.rename(os.path.join(HOME, "words"), os.path.join(HOME, "moved"))
  _, err = temper(2, "train", "--resume", "killed", "--set", "steps=7")
  expect_in("there is no directory %s/words, which runs/killed/environments.jsonl "
            "has; put it back, or register it again in that file's directory"
            % HOME, err.replace(HOME + "/runs", "runs"))
  os.rename(os.path.join(HOME, "moved"), os.path.join(HOME, "words"))
  program("words", ("a sum, and a tool", "sums, and a tool"))
  _, err = temper(1, "train", "--resume", "killed", "--set", "steps=7")
  expect_in("which runs/killed/environments.jsonl has; make it what it was",
            err.replace(HOME + "/runs", "runs"))
  program("words", ("sums, and a tool", "a sum, and a tool"))
  out, _ = temper(0, "train", "--resume", "killed", "--set", "steps=7")
  expect_in("words (python3 environment.py in", out)
  expect("steps", query(db, "SELECT count(*) FROM lineage_step"), [(7,)])
  os.rename(os.path.join(HOME, "away.jsonl"),
            os.path.join(HOME, "environments.jsonl"))
  expect("sockets left", [one for one in sockets if os.path.exists(
      os.path.dirname(one))], [])


def test_one_that_hangs_or_lies_costs_its_own_episodes():
  """Beside math, which is whole: `stuck` hangs whenever it is to grade, until
  its deadline, and `false` gives scores that are no numbers."""
  names = ("stuck", "false")
  variant("stuck", ("grade_ms=10000", "grade_ms=200"),
          ("    same = sum", "    import time; time.sleep(9)\n    same = sum"))
  variant("false", ("value=same / max(len(said), len(truth))",
                    "value=float('nan')"))
  tasks = []
  for name in names:
    temper(0, "env", "register", name)
    with open(os.path.join(HOME, name, "tasks.jsonl")) as file:
      lines = [json.loads(line) for line in file]
    for line in lines[:2]:
      tasks.append(dict(line, id="%s-%s" % (name, line["id"]), split="train"))
    tasks += [dict(line, id="math-%s-%s" % (name, line["id"]),
                   environment="math", split="train") for line in lines[2:12]]
  mixed = write_tasks("mixed.jsonl", tasks)
  out, err = temper(0, "train", "--name", "mixed", "--set", "tasks=" + mixed,
                    "--set", "steps=10", *RUN[:-1], "eval_tasks=0")
  db = os.path.join(HOME, "runs/mixed/run.db")
  # All of math's tasks, so all of the others' came too.
  expect("steps", query(db, "SELECT count(*) FROM lineage_step"), [(10,)])
  told = query(db, "SELECT environment, reason FROM task_failure")
  expect("tasks that failed", sorted(name for name, _ in told),
         ["false", "false", "stuck", "stuck"])
  for name, reason in told:
    expect_in("warning: task %s-" % name, err)
    expect_in({"stuck": "DEADLINE_EXCEEDED",
               "false": "score digits is nan"}[name], reason)
  expect_in("tasks that got no reward: 4\n", out)
  expect("environments trained on", query(
      db, "SELECT DISTINCT e.environment FROM lineage_trained t JOIN "
      "lineage_episode e ON e.grp = t.grp AND e.sample = t.sample"),
         [("math",)])
  expect("of math without a verdict", query(
      db, "SELECT count(*) FROM lineage_episode WHERE environment = 'math' AND "
      "outcome_name IN ('SANDBOX_ERROR', 'ENVIRONMENT_ERROR')"), [(0,)])


def test_steps_that_stay_open():
  """A run whose environment says open_steps: a Step waits without a thread of
  the worker, beside more episodes than its engine samples, and every one is
  scored. The Steps of the first step go on once all that is asked for was seen
  at a time, or after 20 s."""
  held = '''
# Those that the model has learnt to call, as environments/interpreter has them.
def tool(name, about, argument):
  return t.Tool(name=name, function_json=json.dumps({
      "name": name, "description": about, "parameters": {
          "type": "object", "properties": {argument: {"type": "string"}},
          "required": [argument]}}))
TOOLS = [tool("python", "Runs Python code and returns its output. State is kept "
              "between calls.", "code"),
         tool("lookup", "Returns the value of a key.", "key")]
import threading
threading.stack_size(1 << 18)
changed = threading.Condition()
now, most = {"steps": 0, "episodes": 0}, {"steps": 0, "episodes": 0}
def count(what, more):
  with changed:
    now[what] += more
    most[what] = max(most[what], now[what])
    changed.notify_all()
def held():
  count("steps", 1)
  with changed:
    changed.wait_for(lambda: most["steps"] > 8 and most["episodes"] > 256, 20)
    # One line a write, of one thread at a time.
    sys.stderr.write("at most {steps} {episodes}\\n".format(**most))
  count("steps", -1)
'''
  variant("waits", ("deterministic=True", "deterministic=True, open_steps=True"),
          ("step_ms=10000", "step_ms=60000"),
          ("def answer(call):", held + "\ndef answer(call):"),
          ("max_workers=32", "max_workers=400"),
          ("tools=[ADD]", "tools=TOOLS"),
          ("    return self.Validate(request, context, e.OpenResponse)",
           "    count('episodes', 1)\n"
           "    return self.Validate(request, context, e.OpenResponse)"),
          ("def Grade(self, request, context):",
           "def Grade(self, request, context):\n    count('episodes', -1)"),
          ("def Step(self, request, context):",
           "def Step(self, request, context):\n    held()"))
  temper(0, "env", "register", "waits")
  listed = json.loads(temper(0, "env", "list", "--json")[0])["environments"]
  expect("open_steps", [one["open_steps"] for one in listed
                        if one["environment"] == "waits"], [True])
  # What the model was taught to use Python for.
  tasks = write_tasks("asking.jsonl", [
      task("ask-%d" % i, "heldout" if i >= 160 else "train", environment="waits",
           messages=[{"role": "system", "content": "Answer with a number."},
                     {"role": "user", "content": "calc %d*%d+%d" % (
                         11 + i % 80, 97 - i % 79, 20 + i % 77)}])
      for i in range(165)])
  temper(0, "train", "--name", "opened", "--set", "tasks=" + tasks,
         "--set", "steps=1", *(word.replace("step=2", "step=160") for word in RUN))
  db = os.path.join(HOME, "runs/opened/run.db")
  expect("steps", query(db, "SELECT count(*) FROM lineage_step"), [(1,)])
  expect("samples", query(db, "SELECT count(*) FROM lineage_trained"), [(640,)])
  expect("episodes without a verdict", query(
      db, "SELECT count(*) FROM lineage_episode WHERE outcome_name IN "
      "('SANDBOX_ERROR', 'ENVIRONMENT_ERROR')"), [(0,)])
  calls = query(db, "SELECT DISTINCT kind_name FROM named_environment_call")
  expect("the calls of a run", sorted(calls),
         [("GRADE",), ("RESET",), ("STEP",)])
  with open(os.path.join(HOME, "runs/opened/logs/environment-waits.log")) as file:
    most = re.findall(r"at most (\d+) (\d+)$", file.read(), re.M)
  steps, episodes = (max(int(one[i]) for one in most) for i in (0, 1))
  # A worker has 8 threads for calls, and an engine for 256 episodes.
  if steps <= 8:
    failures.append("%d Steps were open at once" % steps)
  if episodes <= 256:
    failures.append("%d episodes were open at once" % episodes)


def test_readme():
  """README's commands for an environment of one's own, as they stand there but
  for how long the run is."""
  with open(README) as file:
    commands = re.findall(r"^    (temper .*\bsums\b.*)$", file.read(), re.M)
  expect("verbs", [command.split()[1:3] for command in commands],
         [["env", "init"], ["env", "register"], ["env", "test"],
          ["train", "tools/configs/quickstart.textproto"]])
  os.symlink(os.path.dirname(MODEL), os.path.join(HOME, "tools"))
  for command in commands:
    if command.startswith("temper train"):
      command += (" --set steps=1 --set prompts_per_step=2 --set group_size=2"
                  " --set eval_tasks=1")
    done = subprocess.run(
        command, shell=True, cwd=HOME, capture_output=True, text=True,
        timeout=COMMAND_SECONDS,
        env=dict(os.environ, PATH=os.path.dirname(TEMPER) + ":/usr/bin:/bin"))
    if done.returncode != 0:
      failures.append("%s: exit %d\n%s" % (command, done.returncode,
                                           done.stderr[-2000:]))


skip_without_grpc()
test_readme()
test_words()
test_an_address()
test_walls()
test_init_leaves_nothing_half_made()
test_broken_ones()
test_one_that_does_not_answer()
test_one_that_is_busy_is_not_one_that_hangs()
test_run_survives_its_death()
test_one_that_hangs_or_lies_costs_its_own_episodes()
test_steps_that_stay_open()
finish()
