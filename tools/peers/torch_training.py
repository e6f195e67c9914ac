#!/usr/bin/env python3
"""Our training pack against PyTorch's with transformers, in one run.

    pip install torch transformers        (in a virtual environment)
    bazel build //tools:temper
    tools/peers/torch_training.py bazel-bin/tools/temper

Forward and backward of 2 x 256 tokens of tools/configs/bench_60m.json with
random weights, in turns: `temper bench train`, then the same shapes by
transformers' DeepSeek model in the same numerics and with as many threads.
Where that package has no DeepSeek-V3.2, it is V3's: the same but for the
indexer, whose selection of 128 keys of 256 it does not make. Prints tokens a
second of both and the median of the rounds' ratios. By hand only: no test and
no build needs the packages.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONFIG = os.path.join(ROOT, "tools", "configs", "bench_60m.json")
SEQUENCES, TOKENS = 2, 256


def peer_model(torch, numerics):
    import transformers

    with open(CONFIG, encoding="utf-8") as file:
        keys = json.load(file)
    for name in ("DeepseekV32", "DeepseekV3"):
        make_config = getattr(transformers, name + "Config", None)
        make_model = getattr(transformers, name + "ForCausalLM", None)
        if make_config is not None and make_model is not None:
            break
    else:
        raise SystemExit("this transformers has no DeepSeek-V3: take a newer one")
    for key in ("architectures", "model_type"):
        keys.pop(key)
    torch.manual_seed(1)
    model = make_model(make_config(**keys))
    return name, model.to(torch.bfloat16 if numerics == "bf16" else torch.float32)


def peer_rate(torch, model, seconds):
    """Tokens a second over at least so long, after one round unmeasured."""
    vocabulary = model.config.vocab_size
    ids = torch.randint(vocabulary, (SEQUENCES, TOKENS))
    begin = done = None
    while done is None or time.monotonic() - begin < seconds:
        model.zero_grad()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        if begin is None:
            begin, done = time.monotonic(), 0
        else:
            done += SEQUENCES * TOKENS
    return done / (time.monotonic() - begin)


def our_rate(temper, numerics, threads):
    out = subprocess.run(
        [temper, "bench", "train", "--model", CONFIG, "--numerics", numerics,
         "--threads", str(threads), "--json"],
        check=True, stdout=subprocess.PIPE)
    said = json.loads(out.stdout)
    return said["tier"], said["measurements"][0]["per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("temper", help="the program that was built")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10,
                        help="that the peer is measured for in a round")
    args = parser.parse_args()

    import torch

    torch.set_num_threads(args.threads)
    for numerics in ("fp32", "bf16"):
        name, model = peer_model(torch, numerics)
        ours, theirs = [], []
        for _ in range(args.rounds):
            tier, rate = our_rate(args.temper, numerics, args.threads)
            ours.append(rate)
            theirs.append(peer_rate(torch, model, args.seconds))
        ratios = [a / b for a, b in zip(ours, theirs)]
        print(f"{numerics}, {args.threads} threads: tier {tier} "
              f"{statistics.median(ours):.0f} tokens/s, {name} in torch "
              f"{torch.__version__} {statistics.median(theirs):.0f}: "
              f"{statistics.median(ratios):.2f} times "
              f"({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
