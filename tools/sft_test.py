#!/usr/bin/env python3
"""temper sft: inputs are checked before anything is made; a making that was
killed or stopped goes on to the bytes of one that was not."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from verb_trial import *

FILES = ["config.json", "manifest.json", "model.safetensors", "tokenizer.json"]


def bytes_of(output):
  """What a finished output directory holds, by name."""
  files = {}
  for name in sorted(os.listdir(os.path.join(HOME, output))):
    with open(os.path.join(HOME, output, name), "rb") as file:
      files[name] = file.read()
  return files


def manifest_of(output):
  return json.loads(bytes_of(output)["manifest.json"])


def line(number):
  return json.dumps({"messages": [
      {"role": "user", "content": "%d + 1?" % number},
      {"role": "assistant", "reasoning_content": "add",
       "content": str(number + 1)}]})


def config(name, text):
  return write(name + ".textproto", text)


def check_making():
  shown = write("shown.jsonl", "".join(line(i) + "\n" for i in range(7)))
  start = SFT_STAGE + 'demonstrations: "%s"\n' % shown
  on = config("on", start + 'model: "%s"\n' % MODEL)
  out, err = temper(0, "sft", on, "--output", "made", "--steps", "1")
  expect("stdout", out, "made\n")
  expect_in("7 demonstrations of ", err)
  expect_in("a checkpoint every 20 in made/unfinished, the model at the end in "
            "made\n", err)
  expect_in("saved config.json, model.safetensors (BF16), tokenizer.json and "
            "manifest.json in made\n", err)
  expect("files", sorted(os.listdir(HOME + "/made")), FILES)
  made = manifest_of("made")
  expect("manifest", sorted(made), ["files", "fp32_sha256", "made_by", "steps"])
  expect("steps", made["steps"], 1)
  _, err = temper(1, "generate", "made", "--prompt", "1 + 1?", "--max-tokens",
                  "2")
  expect_in("it was cut off", err)
  # In codes, as DeepSeek's, from which it goes on too.
  codes = config("codes", start + 'model: "%s" output_dtype: F8_E4M3\n' % MODEL)
  _, err = temper(0, "sft", codes, "--output", "codes", "--steps", "1")
  expect_in("model.safetensors (F8_E4M3)", err)
  said = json.loads(bytes_of("codes")["config.json"])
  expect("dtype", said["torch_dtype"], "bfloat16")
  expect("blocks", said["quantization_config"]["weight_block_size"], [128, 128])
  on_codes = config("on_codes", start + 'model: "%s/codes"\n' % HOME)
  temper(0, "sft", on_codes, "--output", "more_codes", "--steps", "1")
  _, err = temper(1, "generate", "codes", "--prompt", "1 + 1?", "--max-tokens",
                  "2")
  expect_in("matrices stored in F8_E4M3, dequantised", err)
  # What is there is not written over.
  _, err = temper(2, "sft", on, "--output", "made")
  expect_in("made exists and holds config.json; give another --output", err)
  expect("manifest", manifest_of("made"), made)
  # What lies beside the model goes on, but for another tokenizer's.
  beside = copy_of_model("beside")
  write("beside/chat_template.jinja", "{{ messages }}")
  write("beside/tokenizer_config.json", "{}")
  write("beside/generation_config.json", '{"eos_token_id": [2, 1]}')
  kept = start + 'model: "%s"\n' % beside
  temper(0, "sft", config("kept", kept), "--output", "kept", "--steps", "1")
  expect("files", sorted(os.listdir(HOME + "/kept")),
         sorted(FILES + ["chat_template.jinja", "generation_config.json",
                         "tokenizer_config.json"]))
  expect("dtype", json.loads(bytes_of("kept")["config.json"])["torch_dtype"],
         "bfloat16")
  temper(0, "sft", config("changed", kept + 'tokenizer: "%s/tokenizer.json"\n' %
                          MODEL), "--output", "changed", "--steps", "1")
  expect("files", sorted(os.listdir(HOME + "/changed")),
         sorted(FILES + ["chat_template.jinja", "generation_config.json"]))
  # The seed draws the order of demonstrations.
  digests = set()
  for seed in 1, 2:
    temper(0, "sft", config("seed", start + 'model: "%s" seed: %d' % (
        MODEL, seed)), "--output", "seed_%d" % seed)
    digests.add(manifest_of("seed_%d" % seed)["fp32_sha256"])
  expect("orders", len(digests), 2)
  # On from a checkpoint of a run; to the last stage's end.
  tasks = write_tasks("math.jsonl", [task("t"), task("h", "heldout")])
  temper(0, "train", "--name", "r", "--set", "model=" + MODEL, "--set",
         "tasks=" + tasks, "--steps", "1", "--set", "prompts_per_step=1",
         "--set", "group_size=2", "--set", "max_tokens=4", "--set",
         "eval_tasks=0")
  further = config("further", start + 'model: "runs/r/checkpoints/step_1/model"'
                   ' output: "more"\n')
  temper(0, "sft", further, "--revision", "abc")
  more = manifest_of("more")
  expect("revision", (more["revision"], more["steps"]), ("abc", 2))


def refused(text, *said):
  """A configuration that is no good: exit 2, and nothing is made."""
  _, err = temper(2, "sft", config("bad", text), "--output", "new/deep")
  for what in said:
    expect_in(what, err)
  expect("lines of ours", err.count("temper sft: "), 1)
  if os.path.exists(HOME + "/new"):
    failures.append("refused, but made: %r" % text)
    shutil.rmtree(HOME + "/new")
  return err


def check_refusals():
  shown = write("shown.jsonl", line(1) + "\n")
  start = SFT_STAGE + 'demonstrations: "%s"\n' % shown
  large, ids = model_of_more_ids("large")
  with open(MODEL + "/tokenizer.json") as file:
    tokenizer = json.load(file)
  for token in tokenizer["added_tokens"]:
    token["content"] = token["content"].replace("think", "thonk")
  json.dump(tokenizer, open(HOME + "/thonk.json", "w"))
  refused(SFT_STAGE + 'demonstrations: "no" model: "%s"' % MODEL,
          "; set demonstrations to a demonstrations.jsonl file")
  refused(start + 'model: "no"',
          "; name a directory in the Hugging Face layout")
  refused(start + 'model_config: "no" tokenizer: "no"',
          "; set model_config to a config.json")
  refused(start + 'model: "%s" tokenizer: "no"' % MODEL,
          "; name the tokenizer.json that was made for the model")
  refused(start + 'model: "%s"' % large,
          "the tokenizer has %d ids, the model's vocab_size is 512" % ids)
  err = refused(start + 'model: "%s" tokenizer: "thonk.json"' % MODEL,
                "; name the tokenizer.json that was made for the model")
  expect("faults", err.count("has no added token"), 1)
  refused(start + 'model: "%s" save_interval: 0' % MODEL,
          "save_interval 0 is outside its limits 1 to 1000000; set it within")
  # Of 120 lines two are bad, whose turn would come after others.
  lines = [line(i) for i in range(120)]
  lines[88] = '{"messages": [{"role": "user", "content": "?"}]}'
  lines[99] = '{"mesages": []}'
  text = SFT_STAGE + 'demonstrations: "%s" model: "%s"' % (
      write("mute.jsonl", "\r\n\r\n".join(lines)), MODEL)
  refused(text, "2 of 120 demonstrations cannot be learnt from",
          "mute.jsonl:177: messages: no assistant message after the last user",
          "mute.jsonl:199: ", "mesages")
  # Before a tokenizer is learnt from them, too.
  lines[88] = '{"messages": [{"role": "bot", "content": "?"}]}'
  write("mute.jsonl", "\n".join(lines))
  refused(SFT_STAGE + 'demonstrations: "mute.jsonl" tokenizer: "train" '
          'model_config: "%s/config.json"' % MODEL,
          "mute.jsonl:89: message 0 (role 'bot'): unknown role; known: system",
          "mute.jsonl:100: ")
  on = config("on", start + 'model: "%s"\n' % MODEL)
  _, err = temper(2, "sft", "no.textproto")
  expect_in("; name an SftConfig", err)
  _, err = temper(2, "sft")
  expect_in("; name an SftConfig", err)
  _, err = temper(2, "sft", on, "--output", "new", "--resume", "")
  expect_in("--resume is empty; name the unfinished output", err)
  _, err = temper(2, "sft", on, "--output", on)
  expect_in("; name a new directory", err)


# Each kind of stage, with the demonstrations' epochs across them. 400 steps: no
# machine makes them all before a checkpoint of the first is seen.
LONG = """
stage { name: "dense" steps: 6 attention: "dense" train_model: true
  learning_rate: 1e-3 warmup_steps: 4 }
stage { name: "warm" steps: 5 attention: "dense" train_indexer: true
  indexer_learning_rate: 1e-3 }
stage { name: "sparse" steps: 389 attention: "sparse" train_model: true
  train_indexer: true learning_rate: 1e-3 indexer_learning_rate: 1e-3
  decay_fraction: 1 }
demonstrations_per_step: 2 threads: 1 save_interval: 4
output_dtype: "F32" tokenizer: "train"
model_config: "%s/config.json" demonstrations: "long.jsonl" initializer_range: 0.05
""" % MODEL


def end_in_the_middle(args, output, step, sign, cwd=HOME):
  """Sends `sign` once the checkpoint of `step` is there."""
  child = subprocess.Popen([TEMPER, "sft", *args], cwd=cwd,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           text=True)
  deadline = time.monotonic() + COMMAND_SECONDS
  checkpoint = os.path.join(HOME, output, "unfinished", "step_%d" % step)
  while not os.path.exists(checkpoint) and child.poll() is None:
    if time.monotonic() > deadline:
      child.kill()
      sys.exit("no %s in %d s" % (checkpoint, COMMAND_SECONDS))
    time.sleep(0.005)
  child.send_signal(sign)
  _, err = child.communicate(timeout=COMMAND_SECONDS)
  if os.path.exists(os.path.join(HOME, output, "manifest.json")):
    sys.exit("%s was made before it was killed: %s" % (output, err))
  return child.returncode, err


def check_resume():
  lines = [line(i) for i in range(7)]
  write("long.jsonl", "\n".join(lines) + "\n")
  long = config("long", LONG)
  steps = ["--steps", "80", "--revision", "abc"]
  temper(0, "sft", long, "--output", "whole", *steps)
  whole = bytes_of("whole")
  expect("files", sorted(whole), FILES)

  # Killed in the middle of the first stage, of the second, of the third; then
  # its newest checkpoint is damaged.
  code, _ = end_in_the_middle([long, "--output", "cut", *steps], "cut", 4,
                              signal.SIGKILL)
  expect("exit", code, -signal.SIGKILL)
  resume = ["sft", "--resume", "cut"]
  for step in 8, 16:
    code, _ = end_in_the_middle(resume[1:], "cut", step, signal.SIGKILL)
    expect("exit", code, -signal.SIGKILL)
  newest = max(int(name[5:]) for name in os.listdir(HOME + "/cut/unfinished")
               if name.startswith("step_"))
  with open(HOME + "/cut/unfinished/step_%d/model/model.safetensors" % newest,
            "r+b") as file:
    file.seek(-1, os.SEEK_END)
    byte = file.read(1)
    file.seek(-1, os.SEEK_END)
    file.write(bytes([byte[0] ^ 1]))
  os.mkdir(HOME + "/elsewhere")
  refusals(resume, long, lines)
  # A disk that is full, as far as a file of a checkpoint is concerned; and what
  # ThreadSanitizer keeps in files too, which it does not survive.
  with open(TEMPER, "rb") as program:
    thread_sanitized = b"__tsan_init" in program.read()
  if not thread_sanitized:
    _, err = temper(1, *resume, restore_signals=False, preexec_fn=lambda: (
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))))
    expect_in("; once that is mended, go on by `temper sft --resume cut`", err)
  # As one killed in its last writes leaves it.
  write("cut/model.safetensors.tmp.4711.0", "half")
  out, err = temper(0, "sft", "--resume", "../cut", cwd=HOME + "/elsewhere")
  expect_in("skipped ../cut/unfinished/step_%d: " % newest, err)
  expect_in("going on from ../cut/unfinished/step_%d\n" % (newest - 4), err)
  expect("device and why", re.findall(r"\d tokens; \w+ \(.+\), \d+ threads", err)
         != [], True)
  expect("stdout", out, "../cut\n")
  if bytes_of("cut") != whole:
    failures.append("a killed sft went on to other bytes: %r, not %r" % (
        manifest_of("cut"), manifest_of("whole")))

  # Of a finished one there is nothing to do, and nothing is done.
  out, err = temper(0, *resume)
  expect("stdout", out, "cut\n")
  expect_in("cut is finished, there is nothing to do", err)
  expect("cut", bytes_of("cut") == whole, True)


def refusals(resume, long, lines):
  """What may not change meanwhile is named; what is there stays."""
  before = sorted(os.listdir(HOME + "/cut/unfinished"))
  # By the same command, which does not go on by itself.
  _, err = temper(2, "sft", long, "--output", "cut")
  expect_in("cut is unfinished; go on with it by `temper sft --resume cut`",
            err)
  for text, said in (
      (LONG + "seed: 2", "seed is 2, and began as 1; a resume may change only "),
      # What auto came to.
      (LONG + "device: cuda", "device is cuda, and began as cpu"),
      (LONG.replace("steps: 389", "steps: 388"), "stage 3 (\"sparse\"): steps is 388, and began as 389"),
      (LONG.replace("learning_rate: 1e-3 w", "learning_rate: 1e-2 w"),
       "stage 1 (\"dense\"): learning_rate is 0.01, and began as 0.001"),
      (LONG.replace(" warmup_steps: 4", ""),
       "stage 1 (\"dense\"): warmup_steps is 0, and began as 4"),
      (LONG[:LONG.index('stage { name: "warm"')] +
       LONG[LONG.index('stage { name: "sparse"'):],
       "there are 2 of stage, and it began with 3")):
    _, err = temper(2, *resume, config("changed", text))
    expect_in("changed.textproto: " + said, err)
  _, err = temper(2, *resume, "--steps", "3")
  expect_in("leave out --output, --revision and --steps", err)
  _, err = temper(2, "sft", "--resume", "elsewhere")
  expect_in("nothing in elsewhere that `temper sft` began", err)
  write("long.jsonl", "\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
  _, err = temper(2, *resume)
  expect_in("/long.jsonl is not what cut began with: its SHA-256 is ", err)
  write("long.jsonl", "\n".join(lines) + "\n")
  expect("checkpoints", sorted(os.listdir(HOME + "/cut/unfinished")), before)


def check_stop():
  """A stop is a checkpoint and the command that goes on; threads may change."""
  long = config("stopped", LONG)
  write("long.jsonl", "".join(line(i) + "\n" for i in range(7)))
  code, err = end_in_the_middle([long, "--output", "stop"], "stop", 4,
                                signal.SIGTERM)
  expect("exit", code, 1)
  expect_in("; go on by `temper sft --resume stop`", err)
  stopped = err.split("stopped after step ")[1].split(" of 400")[0]
  saved = os.listdir(HOME + "/stop/unfinished")
  expect("checkpoint", "step_" + stopped in saved, True)
  expect("kept", len([name for name in saved if name != "lock"]), 2)
  # Not by two at a time.
  child = subprocess.Popen(
      [TEMPER, "sft", "--resume", "stop",
       config("threads", LONG.replace("threads: 1", "threads: 2"))], cwd=HOME,
      stderr=subprocess.PIPE, text=True)
  for text in child.stderr:
    if "going on from" in text:
      break
  expect_in("stop/unfinished/step_%s\n" % stopped, text)
  for verb in ("--resume", "stop"), (long, "--output", "stop"):
    _, err = temper(1, "sft", *verb)
    expect_in("stop is being made by another process", err)
  child.kill()
  child.communicate(timeout=COMMAND_SECONDS)
  expect("exit", child.returncode, -signal.SIGKILL)


def main():
  check_making()
  check_refusals()
  check_resume()
  check_stop()
  finish()


main()
