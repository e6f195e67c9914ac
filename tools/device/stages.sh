# What bundle.sh packs and check.sh runs: programs, and the stages that they are
# for. Sourced by both.

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
cpu_stages=(doctor:10 digests:40 goldens:40)
gpu_stages=(probe:20 conformance:45 backend:15 model:45 generate:15 train:65
  bench:55 sanitizer:25 machine_code:10)
end_seconds=2
