#!/usr/bin/env python3
"""What ptxas made of each kernel: nothing spilled, registers and shared memory as
planned. resources_test.py LOG..

A block of 256 threads with 128 registers each leaves room for a second one on a
multiprocessor; without shared memory to speak of, small kernels are to fill it.
"""

import re
import sys
import unittest

# Registers of a thread at most, bytes of shared memory.
SMALL = (64, 0)
PLANNED = {
    "index_scores_f32": (128, 11776),
    "kl_scores_f32": (128, 11776),
    "mla_score_grads_f32": (128, 9760),
    "norm_weight_grad_f32": (64, 256),
    "plan_count_i32": (64, 32),
    "plan_places_i32": (64, 32),
    "product_f32<4,8>": (128, 896),
    "product_f32<8,8>": (128, 1152),
    "product_f32<16,16>": (128, 2176),
    "product_f32<32,32>": (128, 4224),
    "product_f32<64,64>": (128, 8320),
    "sample_f32": (128, 2088),
    "sparse_mla_f32": (128, 11880),
    "top_k_f32": (64, 1064),
}
KERNELS = 53  # with the ten of the products

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


class ResourcesTest(unittest.TestCase):
    def test_every_kernel_is_as_planned(self):
        seen = []
        for log in LOGS:
            with open(log, encoding="utf-8") as text:
                said = text.read()
            self.assertNotIn("warning", said)
            seen += resources(said)
        for name, local, registers, shared in seen:
            registers_max, shared_planned = PLANNED.get(name, SMALL)
            with self.subTest(name):
                self.assertEqual(local, 0, "bytes spilled or on the stack")
                self.assertLessEqual(registers, registers_max, "registers")
                self.assertEqual(shared, shared_planned, "bytes of shared memory")
        self.assertEqual(len(seen), KERNELS, sorted(set(name for name, *_ in seen)))
        self.assertEqual(set(PLANNED) - set(name for name, *_ in seen), set())


if __name__ == "__main__":
    LOGS = sys.argv[1:]
    unittest.main(argv=sys.argv[:1])
