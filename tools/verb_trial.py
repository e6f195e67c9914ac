"""What the tests of verbs share: the binary and the model that they are given,
and a list of what was not as it should be.

Imported by a test called with both paths:

  sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
  from verb_trial import *
  ...
  finish()
"""

import json
import os
import shutil
import subprocess
import sys

TEMPER = os.path.abspath(sys.argv[1])
MODEL = os.path.abspath(sys.argv[2])
HOME = os.environ["TEST_TMPDIR"]
COMMAND_SECONDS = 240
failures = []


def finish():
  if failures:
    sys.exit("\n".join(failures))


def temper(code, *args, cwd=HOME, **more):
  """stdout and stderr of a command that is to end with `code`."""
  done = subprocess.run([TEMPER, *args], capture_output=True, text=True,
                        timeout=COMMAND_SECONDS, cwd=cwd, **more)
  if done.returncode != code:
    failures.append("temper %s: exit %d, not %d\n%s" % (
        " ".join(map(str, args))[:300], done.returncode, code,
        done.stderr[-2000:]))
    if code == 0:  # what comes next needs it
      finish()
  return done.stdout, done.stderr


def expect_in(what, text):
  if what not in text:
    failures.append("no %r in %r" % (what, text[:1500]))


def expect(what, got, wanted):
  if got != wanted:
    failures.append("%s is %r, not %r" % (what, got, wanted))


def write(name, text):
  """A file in HOME, with the line ends that `text` has."""
  path = os.path.join(HOME, name)
  with open(path, "w", newline="") as out:
    out.write(text)
  return path


def task(id, split="train", content="1 + 1?", **fields):
  """One of environment math, whose answer is 2."""
  made = {"id": id, "environment": "math", "split": split,
          "messages": [{"role": "user", "content": content}],
          "payload_json": json.dumps({"answer": "2"})}
  made.update(fields)
  return made


def write_tasks(name, tasks):
  return write(name, "".join(json.dumps(one) + "\n" for one in tasks))


def copy_of_model(name):
  """Its directory, whose files can be written to."""
  path = os.path.join(HOME, name)
  os.mkdir(path)
  for file in os.listdir(MODEL):
    shutil.copyfile(os.path.join(MODEL, file), os.path.join(path, file))
  return path


def model_of_more_ids(name):
  """A copy whose tokenizer has an id more than the model's vocabulary has room
  for; and how many ids those are."""
  path = copy_of_model(name)
  with open(path + "/tokenizer.json") as file:
    tokenizer = json.load(file)
  last = max(token["id"] for token in tokenizer["added_tokens"])
  ids = max(last, max(tokenizer["model"]["vocab"].values())) + 1
  tokenizer["added_tokens"].append(
      dict(tokenizer["added_tokens"][0], id=ids, content="<more>"))
  with open(path + "/tokenizer.json", "w") as file:
    json.dump(tokenizer, file)
  return path, ids + 1


# One stage of `temper sft` that trains all there is.
SFT_STAGE = """stage { name: "all" steps: 2 attention: "sparse" train_model: true
  train_indexer: true learning_rate: 1e-3 indexer_learning_rate: 1e-3 }
demonstrations_per_step: 2 threads: 1
"""
