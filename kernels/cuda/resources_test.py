#!/usr/bin/env python3
"""What ptxas made of each kernel: nothing spilled, registers and shared memory as
planned, and tensor cores used by the instructions that were meant.
resources_test.py LOG.. PTX..

A block of 256 threads with 128 registers each leaves room for a second one on a
multiprocessor; without shared memory to speak of, small kernels are to fill it.
Where a block has a multiprocessor for itself, of 9 to 12 warps, a thread has 168.
Dynamic shared memory is not ptxas's to know: static_asserts hold it to 227 KiB.
"""

import re
import sys
import unittest

# Registers of a thread at most, bytes of shared memory.
SMALL = (64, 0)
PLANNED = {
    "index_scores_bf16": (64, 4352),
    "index_scores_f32": (128, 11776),
    "kl_scores_bf16": (64, 4352),
    "kl_scores_f32": (128, 11776),
    "mla_score_grads_bf16": (128, 8512),
    "mla_score_grads_f32": (128, 9760),
    "norm_weight_grad_f32": (64, 256),
    "plan_count_i32": (64, 32),
    "plan_places_i32": (64, 32),
    "product_bf16": (168, 0),
    "product_f32<4,8>": (128, 896),
    "product_f32<8,8>": (128, 1152),
    "product_f32<16,16>": (128, 2176),
    "product_f32<32,32>": (128, 4224),
    "product_f32<64,64>": (128, 8320),
    "sample_f32": (128, 2088),
    "sparse_mla_bf16": (64, 4552),
    "sparse_mla_f32": (128, 11880),
    "sum_keys_bf16": (128, 0),
    "top_k_f32": (64, 1064),
    "wide_mla_bf16": (168, 0),
}
KERNELS = 76  # with the ten of products of floats, fourteen of bf16's

WGMMA = "wgmma.mma_async.sync.aligned.m64n%dk16.f32.bf16.bf16"
MMA = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
# By kernel the instructions of tensor cores that are in it, or in one of it.
TENSOR_CORES = {
    "index_scores_bf16": {MMA},
    "kl_scores_bf16": {MMA},
    "mla_score_grads_bf16": {MMA},
    "plain_product_bf16": {MMA},
    "product_bf16": {WGMMA % n for n in (8, 16, 32, 64, 128, 256)},
    "sparse_mla_bf16": {MMA},
    "sum_keys_bf16": {MMA},
    "wide_mla_bf16": {WGMMA % n for n in (64, 256)},
    "wide_scores_bf16": {WGMMA % 64},
}

# A kernel in an anonymous namespace, as nvcc names it: the file, hashes, the
# name behind its length, the arguments of a template.
NAME = re.compile(r"_GLOBAL__N__[0-9a-f]{8}_\d+_\w+?_cu_[0-9a-f]{8}(\d+)([a-z]\w*)")
TILE = re.compile(r"ILi(\d+)ELi(\d+)E")


def resources(text):
    """[kernel, local bytes, registers, shared bytes] of each in a source's log."""
    for part in text.split("Compiling entry function")[1:]:
        length, rest = NAME.search(part).groups()
        name, rest = rest[:int(length)], rest[int(length):]
        if tile := TILE.match(rest):
            name += "<%s,%s>" % tile.groups()
        # A frame on the stack lies there too: an array that registers cannot hold.
        stack = re.search(r"(\d+) bytes stack frame(?:, (\d+) bytes spill \w+){2}", part)
        local = sum(int(n) for n in re.findall(r"(\d+) bytes", stack.group()))
        registers = int(re.search(r"Used (\d+) registers", part).group(1))
        shared = re.search(r"(\d+) bytes smem", part)
        yield name, local, registers, int(shared.group(1)) if shared else 0


def instructions(text):
    """(kernel, instructions of tensor cores) of each in a source's PTX."""
    for part in re.split(r"\.entry ", text)[1:]:
        length, rest = NAME.search(part).groups()
        yield rest[:int(length)], set(re.findall(r"(?:wgmma\.mma_async|mma\.sync)[\w.]+", part))


class ResourcesTest(unittest.TestCase):
    def test_every_kernel_is_as_planned(self):
        seen = []
        for said in texts(".ptxas"):
            self.assertNotIn("warning", said)
            self.assertNotIn("Potential Performance Loss", said)
            seen += resources(said)
        for name, local, registers, shared in seen:
            registers_max, shared_planned = PLANNED.get(name, SMALL)
            with self.subTest(name):
                self.assertEqual(local, 0, "bytes spilled or on the stack")
                self.assertLessEqual(registers, registers_max, "registers")
                self.assertEqual(shared, shared_planned, "bytes of shared memory")
        self.assertEqual(len(seen), KERNELS, sorted(set(name for name, *_ in seen)))
        self.assertEqual(set(PLANNED) - set(name for name, *_ in seen), set())

    def test_tensor_cores_are_used_by_the_instructions_that_were_meant(self):
        used = {}
        for text in texts(".ptx"):
            for name, found in instructions(text):
                if found:
                    used[name] = used.get(name, set()) | found
        self.assertEqual(used, TENSOR_CORES)


def texts(ending):
    for path in PATHS:
        if path.endswith(ending):
            with open(path, encoding="utf-8") as text:
                yield text.read()


if __name__ == "__main__":
    PATHS = sys.argv[1:]
    unittest.main(argv=sys.argv[:1])
