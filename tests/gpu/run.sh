#!/usr/bin/env bash
# The whole GPU suite and the GPU benchmarks, on one GPU or several.
#
#   tests/gpu/run.sh [CHOICE]          builds build/cuda and runs
#   tests/gpu/run.sh --pack FOLDER     builds, and puts all that a machine with nothing but CUDA and
#                                      Python needs into FOLDER
#   FOLDER/run.sh [CHOICE]             runs there what was packed
#
#   CHOICE   --tests [NAME ...]        ops, training, NCCL with a rank on each GPU, and jobs through the
#                                      whole service (service_check.py)
#            --benchmarks [NAME ...]   and, where PyTorch is, what others have (gpu_*_rivals.py; with
#                                      flash-linear-attention from PyPI also that)
#            --sanitize                the tests of ops and narrow tests of attention along pairs under
#                                      compute-sanitizer (memcheck, racecheck)
#
# Without a choice tests and benchmarks run. A test that finds no GPU fails here. One failure does not
# stop the others; the exit code tells of it. Results land in ${OUT:-gpu-results}: logs, and *.json,
# which docs/generate_performance.py reads. WEFT_BUILD_DIR names a build folder that is complete
# already, whose programs are taken as they are.
set -euo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
tests=(
  cuda_ops_test
  cuda_delta_test
  cuda_linear_attention_test
  cuda_polysketch_test
  cuda_sbm_test
  cuda_scatterbrain_test
  cuda_softmax_test
  cuda_training_test
  nccl_exchange_test
  service_check
)
benchmarks=(gpu_ops_bench gpu_attention_bench gpu_training_bench gpu_gang_bench nccl_overlap_bench
            nccl_recovery_bench)
rivals=(kernels/bench/gpu_attention_rivals.py worker/train/gpu_training_rivals.py)
programs=(weft weft-coordinator weft-worker weft-rank weft-relay)
out="$(realpath -m -- "${OUT:-gpu-results}")"

# Where the parts of a build lie, in the order in which they are looked for.
folders() { echo "$build_dir/bin" "$build_dir/tests" "$build_dir/bench"; }

build() {
  build_dir="$(realpath -m -- "${WEFT_BUILD_DIR:-$here/../../build/cuda}")"
  if [ -n "${WEFT_BUILD_DIR:-}" ]; then return; fi
  (
    cd "$here/../.." # where the presets are; the caller's folder stays what relative paths mean
    cmake --preset cuda >/dev/null
    cmake --build --preset cuda --target "${programs[@]}" "${benchmarks[@]}" \
      $(printf '%s\n' "${tests[@]}" | grep -v service_check)
  )
}

# Libraries that a program needs and that a machine with CUDA may lack: all but the compiler's, the
# driver's and the toolkit's.
needed_libraries() {
  ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
    grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*|libstdc\+\+|libgcc_s|libcuda|libcublas[^/]*|libcudart|libnccl)\.so'
}

pack() {
  local folder="$1" name place
  mkdir -p "$folder/bin" "$folder/lib"
  for name in "${tests[@]}" "${benchmarks[@]}" "${programs[@]}"; do
    for place in $(folders); do
      if [ -e "$place/$name" ]; then cp -L "$place/$name" "$folder/bin/"; fi
    done
  done
  strip "$folder"/bin/*
  needed_libraries "$folder"/bin/* | xargs -I{} cp -L {} "$folder/lib/"
  cp "$here/run.sh" "$here/service_check.py" "${rivals[@]/#/$here/../../}" "$folder/"
  du -sh "$folder"
}

# Puts the programs into PATH: packed beside this script, or from the build tree.
find_programs() {
  if [ -d "$here/bin" ]; then
    export PATH="$here/bin:$PATH" LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  else
    build
    PATH="$(folders | tr ' ' ':'):$PATH"
    export PATH
  fi
  # cuBLASLt and NCCL are the toolkit's or those of Python's nvidia packages.
  local place
  for place in $(python3 -c 'import nvidia, glob
for root in nvidia.__path__: print(*glob.glob(root + "/*/lib"))' 2>/dev/null) /usr/local/cuda/lib64; do
    if [ -d "$place" ]; then export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$place"; fi
  done
  mkdir -p "$out"
}

failures=0
# Runs a command with its output in $out/NAME.log, whose end is shown.
part() {
  local name="$1" begin=$SECONDS result=0
  shift
  "$@" >"$out/$name.log" 2>&1 || result=$?
  tail -n "${WEFT_LOG_LINES:-12}" "$out/$name.log"
  echo "== $name: $([ $result = 0 ] && echo ok || echo "FAILED ($result)"), $((SECONDS - begin)) s"
  if [ $result != 0 ]; then failures=$((failures + 1)); fi
}

run_tests() {
  local name
  export WEFT_REQUIRE_GPU=1
  for name in "$@"; do
    if [ "$name" = service_check ]; then
      part service_check "$here/service_check.py" "$out/service_check"
    else
      part "$name" "$name" --gtest_brief=1
    fi
  done
}

run_sanitized() {
  local tool program filter
  for tool in memcheck racecheck; do
    while read -r program filter; do
      WEFT_REQUIRE_GPU=1 part "$tool-$program" compute-sanitizer --tool "$tool" --error-exitcode 9 \
        --print-limit 5 "$program" --gtest_brief=1 --gtest_filter="$filter" </dev/null
    done <<'END'
cuda_ops_test *CudaOpTest.Is*
cuda_sbm_test *Narrow*
cuda_scatterbrain_test *Narrow*
END
  done
}

run_rivals() {
  local rival name script
  if ! python3 -c 'import torch' 2>/dev/null; then
    echo "== rivals: NOT timed, python3 has no PyTorch here"
    return
  fi
  for rival in "${rivals[@]}"; do
    name="$(basename "$rival" .py)"
    script="$here/$name.py"
    [ -e "$script" ] || script="$here/../../$rival"
    part "$name" python3 "$script" "$out/$name.json"
  done
}

run_benchmarks() {
  local name
  for name in "$@"; do
    part "$name" "$name" --benchmark_out="$out/$name.json" \
      --benchmark_out_format=json --benchmark_counters_tabular=true
  done
}

choice="${1:-}"
if [ $# -gt 0 ]; then shift; fi
case "$choice" in
  --pack) build; pack "${1:?a folder to pack into}" ;;
  --tests) find_programs; run_tests "${@:-${tests[@]}}" ;;
  --benchmarks)
    find_programs
    run_benchmarks "${@:-${benchmarks[@]}}"
    if [ $# = 0 ]; then run_rivals; fi
    ;;
  --sanitize) find_programs; run_sanitized ;;
  "") find_programs; run_tests "${tests[@]}"; run_benchmarks "${benchmarks[@]}"; run_rivals ;;
  *) sed -n '2,20s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac
exit $((failures > 0))
