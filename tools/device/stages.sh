# What bundle.sh packs and check.sh runs: programs, and the stages that they are
# for, of each the tests. Sourced by both.

program_targets=(
  //tools:temper
  //tests:numerics_digest_test
  //tests:model_parity_test
  //tests:cuda_model_on_gpu
  //kernels/cuda:op_conformance_on_gpu
  //kernels/cuda:cuda_backend_on_gpu
  //kernels/cuda/simt:instructions_on_gpu
)

# Those that need no GPU, then those that do. Each is a function of check.sh;
# beside it the seconds it may take, and what it is given to end then. With the
# unpacking all of it is 7 minutes at most.
cpu_stages=(doctor:10 digests:40 goldens:40 programs:10)
gpu_stages=(probe:20 conformance:45 backend:15 model:45 generate:15 train:65
  bench:55 sanitizer:25 machine_code:10)
end_seconds=1

# Filters of GoogleTest.
export golden_tests='Goldens/*A:Goldens/*C'
export probe_tests='TensorMapTest.*'
for test in \
  'WgmmaTest.Every*' WgmmaTest.StridesAreHeeded WgmmaTest.AFromRegisters \
  'MatrixTest.*Follow*' \
  'WarpTest.ShufflesRead*' 'WarpTest.VotesCount*' WarpTest.PartsOfAWarpMeetApart \
  'WarpTest.NamedBarriers*' \
  'BlockTest.EveryThread*' 'BlockTest.ABlockSums*' 'BlockTest.BlocksOfAnySize*' \
  'BlockTest.BarriersDoNotWait*' BlockTest.AtomicsLoseNothing \
  'CopyTest.CopiesOf*' 'CopyTest.Boxes*' 'CopyTest.BulkCopies*' 'CopyTest.Phases*'; do
  probe_tests+=":Schedules/$test/0"
done
export conformance_tests='-*.ShapesAreHeld'
export backend_tests='-*WhatComesDownIsThereOnceItsEventWasWaitedFor'
export repeated_tests='*.AGraphIs*:*.ProductsHaveTheCpusBits*'
export model_tests='-*GoldenB*'
export sanitizer_tests='*.AGraph*:*.AFault*'

# What the stages generate and train run on and compare, two of them; train's
# steps.
export compared='cuda cpu' steps=3
