#!/usr/bin/env python3
"""The verbs that take a model: what they say of one that is no good, of episodes
that were not judged, of settings without effect; exit codes as a script reads
them."""

import glob
import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from verb_trial import *


def check_bench():
  """What it says, never how fast: that is the machine's."""
  out, _ = temper(0, "bench", "forward", "--model", MODEL, "--threads", "1",
                  "--json")
  said = json.loads(out)
  expect("threads", said["threads"], 1)
  _, err = temper(2, "bench", "gemm", "--tier", "abacus")
  expect_in('no CPU tier is called "abacus"', err)
  for verb in ("bench", "gemm"), ("generate", MODEL, "--prompt", "hello"):
    _, err2 = temper(2, *verb, "--device", "gpu")
    expect_in("--device gpu is none of auto | cpu | cuda", err2)
  for numerics in "bf16", "fp8":
    _, err2 = temper(2, "bench", "gemm", "--device", "cuda", "--numerics",
                     numerics)
    expect_in("cuda has no kernels of %s yet" % numerics, err2)
  for verb in ("gemm",), ("train", "--model", MODEL), ("decode", "--model",
                                                       MODEL):
    out, _ = temper(0, "bench", *verb, "--numerics", "fp8", "--json")
    expect("numerics", json.loads(out)["numerics"], "fp8")
  _, err2 = temper(2, "bench", "gemm", "--device", "cuda", "--tier", "scalar")
  expect_in("scalar is named, of device cpu, and device is cuda", err2)
  tiers = re.search("this CPU can run (.*)", err).group(1).split(", ")
  expect("tier", said["tier"] in tiers, True)
  expect("names", [row["name"] for row in said["measurements"]],
         ["2 x 256 tokens"])
  row = said["measurements"][0]
  expect("a fraction of a peak", row["fraction_of_peak"] > 0, True)
  _, err = temper(2, "bench", "forward", "--model", HOME + "/nothing")
  expect_in("nothing", err)


def check_no_gpu():
  """Cuda that is asked for and not there is exit 2, naming what is missing."""
  if glob.glob("/dev/nvidia[0-9]*"):
    return  # it is there
  shown = write("shown.jsonl", json.dumps({"messages": [
      {"role": "user", "content": "?"}, {"role": "assistant", "content": "1"}]}))
  on = write("cuda.textproto", SFT_STAGE + 'demonstrations: "%s" model: "%s" '
             'output: "unmade" device: cuda\n' % (shown, MODEL))
  tasks = ("--set", "tasks=quickstart", "--set", "environments=math",
           "--set", "device=cuda")
  for verb in (("bench", "gemm", "--device", "cuda"),
               ("generate", MODEL, "--prompt", "hello", "--device", "cuda"),
               ("eval", MODEL, *tasks), ("sft", on),
               ("train", "--name", "cuda", "--steps", "1", "--set",
                "model=" + MODEL, *tasks)):
    out, err = temper(2, *verb)
    expect("stdout", out, "")
    expect("what is missing", len(re.findall(
        "device cuda: (?:this program was built without CUDA; .+ and run "
        "bazel-bin/tools/temper |no GPU that CUDA can use: .+; )", err)), 1)


def expect_computing(err):
  """What was computed on, and why."""
  expect("computing on", len(re.findall(
      r"^computing on \w+ \(.+\), \d+ threads$", err, re.M)), 1)


def check_generate():
  long = "a b " * 20000
  for more in [], ["--json"]:
    out, err = temper(2, "generate", MODEL, "--prompt", long, *more)
    expect("stdout", out, "")
    expect_in("is above 4096, the model's max_position_embeddings", err)
  _, err = temper(2, "generate", MODEL, "--prompt", b"ab\xff\xfe")
  expect_in("--prompt is not UTF-8 from its byte 2 on", err)
  # Text as a person reads it, not the chat format's markup.
  out, err = temper(0, "generate", MODEL, "--prompt", "hello", "--samples",
                    "2", "--seed", "1")
  expect_computing(err)
  expect("markup", re.findall("</?think>|<\uff5c|DSML", out), [])
  expect_in("--- sample 1\n", out)
  # Not one is well-formed.
  out, err = temper(1, "generate", MODEL, "--prompt", "hello", "--max-tokens",
                    "2")
  expect("markup", re.findall("</?think>|<\uff5c|DSML", out), [])
  expect_in("none of 1 samples is well-formed; the first: it was cut off; "
            "--max-tokens is 2", err)
  out, _ = temper(1, "generate", MODEL, "--prompt", "hello", "--max-tokens",
                  "2", "--json")
  expect("error", json.loads(out)["samples"][0]["error"], None)
  babble = ("generate", MODEL, "--prompt", "hello", "--temperature", "100",
            "--top-p", "1", "--max-tokens", "4000")
  out, err = temper(1, *babble)
  expect("stdout", out, "")
  expect_in("sample 0: it is malformed: ", err)
  expect_in("none of 1 samples is well-formed; the first: it is malformed", err)
  out, _ = temper(1, *babble, "--json")
  sample = json.loads(out)["samples"][0]
  expect("outcome", sample["outcome"], "MODEL_ERROR")
  expect("content", sample["content"], None)


def check_eval():
  unread = write_tasks("unread.jsonl", [
      task("t"), task("h", "heldout", "1 + 1? " * 20000)])
  settings = ["--set", "tasks=" + unread, "--set", "eval_tasks=1"]
  for more in [], ["--json"]:
    out, err = temper(2, "eval", MODEL, *settings, *more)
    expect("stdout", out, "")
    expect_in("unread.jsonl:2: task h: messages: the prompt has ", err)
  for setting in ("learning_rate=1", "workers=2", "save_interval=3",
                  "kl_coef=1", "model=m", "rule_weight=2", "steps=3",
                  "domain=math:1"):
    _, err = temper(2, "eval", MODEL, *settings, "--set", setting)
    expect_in("--set %s has no effect on eval" % setting, err)
  _, err = temper(2, "eval", MODEL, "--set", "tasks=quickstart", "--set",
                  "environments=math", "--set", "eval_tasks=1", "--set",
                  "device=cuda", "--set", "numerics=bf16")
  expect_in("cuda has no kernels of bf16 yet", err)
  # The file that a run was made from may hold such keys.
  config = write("run.textproto", "optimizer { learning_rate: 1 }\n")
  _, err = temper(2, "eval", MODEL, config, *settings[:2],
                  "--set", "eval_tasks=0")
  expect_in("eval_tasks 0 leaves nothing to measure", err)
  _, err = temper(2, "eval", MODEL)
  expect_in("tasks is not set", err)
  _, err = temper(2, "eval", "no_such_model")
  expect_in("name a directory in the Hugging Face layout", err)


def check_bad_models():
  """What was named and cannot be used is exit 2, with what to name."""
  truncated = copy_of_model("truncated")
  with open(truncated + "/model.safetensors", "r+b") as weights:
    weights.truncate(1 << 20)
  garbled = copy_of_model("garbled")
  write("garbled/model.safetensors", "no tensors")
  reshaped = copy_of_model("reshaped")
  config = json.load(open(reshaped + "/config.json"))
  config["n_routed_experts"] *= 2
  json.dump(config, open(reshaped + "/config.json", "w"))
  no_weights = copy_of_model("no_weights")
  os.remove(no_weights + "/model.safetensors")
  for bad in (truncated, garbled, reshaped, no_weights, MODEL + "/config.json",
              "no_such_model", HOME):
    _, err = temper(2, "generate", bad, "--prompt", "hello")
    expect_in("; name a directory in the Hugging Face layout", err)
  mute = copy_of_model("mute")
  os.remove(mute + "/tokenizer.json")
  _, err = temper(2, "generate", mute, "--prompt", "hello")
  expect_in("; name the tokenizer.json that was made for the model", err)
  large, ids = model_of_more_ids("large")
  for verb in ("generate", large, "--prompt", "hello"), ("eval", large, "--set",
                                                         "tasks=quickstart"):
    _, err = temper(2, *verb)
    expect_in("tokenizer.json: the tokenizer has %d ids, the model's "
              "vocab_size is" % ids, err)


def rewrite_json(path, change):
  with open(path) as text:
    value = json.load(text)
  change(value)
  with open(path, "w") as out:
    json.dump(value, out)


def swap_end_and_pad(tokenizer):
  for token in tokenizer["added_tokens"]:
    token["id"] = {1: 2, 2: 1}.get(token["id"], token["id"])


def check_files_that_disagree():
  """Of config.json, tokenizer.json and texts that nobody may guess about."""
  ends = copy_of_model("ends")
  rewrite_json(ends + "/config.json", lambda c: c.update(eos_token_id=7))
  unmerged = copy_of_model("unmerged")
  rewrite_json(unmerged + "/tokenizer.json",
               lambda t: t["model"].update(merges=[]))
  cut = copy_of_model("cut")
  rewrite_json(cut + "/tokenizer.json",
               lambda t: t["model"].update(merges=t["model"]["merges"][:100]))
  endless = copy_of_model("endless")
  rewrite_json(endless + "/config.json", lambda c: c.pop("eos_token_id"))
  rewrite_json(endless + "/tokenizer.json", swap_end_and_pad)
  flat = copy_of_model("flat")
  rewrite_json(flat + "/config.json", lambda c: c.update(hidden_size=0))
  for bad, said in (
      (ends, "<｜end▁of▁sentence｜> has id 1 in tokenizer.json, but "
       "eos_token_id of config.json is 7; make them equal\n"),
      (endless, "has id 2 in tokenizer.json, but eos_token_id of config.json is "
       "1 (as where the key is missing); make them equal\n"),
      (unmerged, "are made by none of the 0 model.merges"),
      (cut, "are made by none of the 100 model.merges"),
      (flat, "/flat/config.json: hidden_size is 0; an integer from 1 to 1048576 "
       "is needed\n")):
    for verb in ("generate", bad, "--prompt", "hello"), (
        "train", "--name", "n", "--steps", "1", "--set", "model=" + bad,
        "--set", "tasks=quickstart"):
      _, err = temper(2, *verb)
      expect_in(said, err)
  # It goes into every checkpoint, for others to read.
  other = copy_of_model("other")
  write("other/generation_config.json", '{"eos_token_id": [2, 5]}')
  shown = write("two.jsonl", json.dumps({"messages": [
      {"role": "user", "content": "?"}, {"role": "assistant", "content": "1"}]}))
  on = write("other.textproto", SFT_STAGE + 'demonstrations: "%s" model: "%s" '
             'output: "unmade"\n' % (shown, other))
  for verb in (("train", "--name", "n", "--steps", "1", "--set",
                "model=" + other, "--set", "tasks=quickstart"), ("sft", on)):
    _, err = temper(2, *verb)
    expect_in("/other/generation_config.json: eos_token_id is not 1, which "
              "<｜end▁of▁sentence｜> has in tokenizer.json; make them equal, or "
              "remove the file", err)
  mark = b"\xef\xbb\xbf"
  for name in "config.json", "tokenizer.json":
    marked = copy_of_model("marked_" + name)
    with open(marked + "/" + name, "rb") as text:
      bytes = text.read()
    with open(marked + "/" + name, "wb") as out:
      out.write(mark + bytes)
    _, err = temper(2, "generate", marked, "--prompt", "hello")
    expect_in("begins with a byte-order mark (EF BB BF); save it as UTF-8", err)
  tasks = write("marked.jsonl", "\ufeff" + json.dumps(task("h", "heldout")))
  config = write("marked.textproto", "\ufeffseed: 1\n")
  stages = write("marked_sft.textproto", "\ufeff" + SFT_STAGE)
  shown = write("shown_sft.textproto", SFT_STAGE + 'demonstrations: "%s" model: '
                '"%s" output: "unmade"\n' % (tasks, MODEL))
  for verb in (("eval", MODEL, "--set", "tasks=" + tasks),
               ("eval", MODEL, config), ("sft", stages), ("sft", shown)):
    _, err = temper(2, *verb)
    expect_in("begins with a byte-order mark (EF BB BF); save it as UTF-8", err)


def check_huge_weights(ending):
  """Finite, and a product with them is no number: no verb dies of it, and all
  name them."""
  name = "huge_" + ending.split(".")[-2]
  huge = copy_of_model(name)
  with open(huge + "/model.safetensors", "rb") as file:
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
  gate = [key for key in sorted(header) if key.endswith(ending)][0]
  begin, end = header[gate]["data_offsets"]
  number = {"BF16": b"\x97\x7e", "F32": b"\x99\x76\x96\x7e"}[
      header[gate]["dtype"]]  # 1e38
  values = bytearray(number * ((end - begin) // len(number)))
  for i in range(len(values) // len(number) // 2):  # half of them negative
    values[(2 * i + 1) * len(number) - 1] |= 0x80
  with open(huge + "/model.safetensors", "r+b") as file:
    file.seek(8 + length + begin)
    file.write(values)
  tasks = write_tasks("sums.jsonl", [task("t"), task("h", "heldout")])
  said = 'e+38, in "%s"' % gate
  _, err = temper(1, "generate", huge, "--prompt", "hello")
  expect_in(said, err)
  _, err = temper(1, "eval", huge, "--set", "tasks=" + tasks, "--set",
                  "eval_tasks=1")
  expect_in(said, err)
  expect_computing(err)
  _, err = temper(1, "train", "--name", name, "--set", "model=" + huge,
                  "--set", "tasks=" + tasks, "--steps", "1", "--set",
                  "prompts_per_step=1", "--set", "group_size=2", "--set",
                  "max_tokens=4", "--set", "eval_tasks=0", "--set", "workers=1")
  expect_in(said, err)
  shown = write("one.jsonl", json.dumps({"messages": [
      {"role": "user", "content": "?"},
      {"role": "assistant", "reasoning_content": "one", "content": "1"}]}) +
      "\n")
  on = write("huge.textproto", SFT_STAGE + 'demonstrations: "%s" model: "%s" '
             'output: "%s_out"\n' % (shown, huge, name))
  _, err = temper(1, "sft", on)
  expect_in(said, err)


def check_empty_resume():
  """A script's variable that is not set begins nothing anew."""
  for verb in (("train", "--resume", "", "--set", "model=" + MODEL),
               ("train", "--resume", ""), ("sft", "--resume", "")):
    _, err = temper(2, *verb)
    expect_in("--resume is empty; name the ", err)


def main():
  check_empty_resume()
  check_bench()
  check_no_gpu()
  check_generate()
  check_eval()
  check_bad_models()
  check_files_that_disagree()
  check_huge_weights("mlp.gate.weight")
  check_huge_weights("lm_head.weight")
  finish()


main()
