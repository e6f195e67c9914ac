#!/usr/bin/env python3
"""What this machine's GPU does by the libraries of PyTorch: fp32 products
without TF32, and a copy. What `temper bench` is to be looked at beside."""

import sys

try:
  import torch
except ImportError:
  print("no PyTorch here: no ceilings")
  sys.exit(0)


def seconds(work, repeats=20):
  """The median, of what the device itself took."""
  work()
  times = []
  for _ in range(repeats):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    end.synchronize()
    times.append(begin.elapsed_time(end) / 1000)
  return sorted(times)[repeats // 2]


def main():
  torch.backends.cuda.matmul.allow_tf32 = False
  print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)
  weight = torch.randn(1024, 1024, device="cuda")
  for rows in 1024, 256, 64, 8:
    x = torch.randn(rows, 1024, device="cuda")
    took = seconds(lambda: x @ weight)
    print(f"{rows} x 1024 x 1024{2 * rows * 1024 * 1024 / took / 1e9:30.2f} G"
          "FLOP/s, fp32")
  a = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
  b = torch.empty_like(a)
  took = seconds(lambda: b.copy_(a))
  print(f"copy of 256 MiB{2 * a.numel() / took / 1e9:30.2f} GB/s, read and "
        "written")


if __name__ == "__main__":
  main()
