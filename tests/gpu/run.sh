#!/usr/bin/env bash
# The whole GPU suite and the GPU benchmarks.
#
#   tests/gpu/run.sh [--tests | --benchmarks | --sanitize]   builds build/cuda and runs
#   tests/gpu/run.sh --pack FOLDER                           builds, and puts all that a machine with
#                                                            nothing but CUDA needs into FOLDER
#   FOLDER/run.sh [--tests | --benchmarks | --sanitize]      runs there what was packed
#
# Without a choice both tests and benchmarks run. A test that finds no GPU fails here. --sanitize runs
# the tests of ops under compute-sanitizer (memcheck, racecheck). Results of benchmarks land in
# ${OUT:-gpu-results}/*.json, which docs/generate_performance.py reads.
set -euo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
tests=(cuda_ops_test cuda_linear_attention_test cuda_training_test)
benchmarks=(gpu_ops_bench gpu_training_bench)

build() {
  cd "$here/../.."
  cmake --preset cuda >/dev/null
  cmake --build --preset cuda --target "${tests[@]}" "${benchmarks[@]}"
}

# Libraries that a program needs and that a machine with CUDA may lack: all but the C library's own,
# the driver's and the toolkit's.
needed_libraries() {
  ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
    grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*|libcuda|libcublas[^/]*|libcudart|libnccl)\.so'
}

pack() {
  local folder="$1"
  mkdir -p "$folder/bin" "$folder/lib"
  for name in "${tests[@]}"; do cp "$here/../../build/cuda/tests/$name" "$folder/bin/"; done
  for name in "${benchmarks[@]}"; do cp "$here/../../build/cuda/bench/$name" "$folder/bin/"; done
  strip --strip-debug "$folder"/bin/*
  needed_libraries "$folder"/bin/* | xargs -I{} cp -L {} "$folder/lib/"
  cp "$here/run.sh" "$folder/run.sh"
  du -sh "$folder"
}

# Where the programs lie: packed beside this script, or in the build tree.
find_programs() {
  if [ -d "$here/bin" ]; then
    test_folder="$here/bin"
    bench_folder="$here/bin"
    export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  else
    build
    test_folder="$here/../../build/cuda/tests"
    bench_folder="$here/../../build/cuda/bench"
  fi
  # cuBLASLt and NCCL are the toolkit's or those of Python's nvidia packages.
  local place
  for place in /usr/local/cuda/lib64 $(python3 -c 'import nvidia, glob
for root in nvidia.__path__: print(*glob.glob(root + "/*/lib"))' 2>/dev/null); do
    if [ -d "$place" ]; then export LD_LIBRARY_PATH="$LD_LIBRARY_PATH:$place"; fi
  done
}

run_tests() {
  local name
  for name in "${tests[@]}"; do
    WEFT_REQUIRE_GPU=1 "$test_folder/$name" --gtest_brief=1
  done
}

run_sanitized() {
  local tool
  for tool in memcheck racecheck; do
    WEFT_REQUIRE_GPU=1 compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 5 \
      "$test_folder/cuda_ops_test" --gtest_brief=1 --gtest_filter='*CudaOpTest.Is*'
  done
}

run_benchmarks() {
  local name
  mkdir -p "${OUT:-gpu-results}"
  for name in "${benchmarks[@]}"; do
    "$bench_folder/$name" --benchmark_out="${OUT:-gpu-results}/$name.json" \
      --benchmark_out_format=json --benchmark_counters_tabular=true
  done
}

case "${1:-}" in
  --pack) build; pack "${2:?a folder to pack into}" ;;
  --tests) find_programs; run_tests ;;
  --benchmarks) find_programs; run_benchmarks ;;
  --sanitize) find_programs; run_sanitized ;;
  "") find_programs; run_tests; run_benchmarks ;;
  *) echo "usage: $0 [--tests | --benchmarks | --sanitize | --pack FOLDER]" >&2; exit 64 ;;
esac
