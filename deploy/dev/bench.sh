#!/usr/bin/env bash
# Runs the benchmarks and writes docs/benchmarks.md.
#   deploy/dev/bench.sh [BUILD_DIR [SECTION]]      default: build/ci, all sections; one is named by its title
# Run it on an idle machine. Ratios are what counts; absolute times belong to the machine that a section names.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(realpath "${1:-build/ci}")
only=${2:-}
page=docs/benchmarks.md
state=$(mktemp -d)
trap 'kill %1 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$state"' EXIT

table() { # the lines of a Google Benchmark run, without its banner
  printf '\n```\n'
  sed -n '/^Benchmark /,$p' | cut -c1-170
  printf '```\n'
}

first_step_seconds() { # $1: a job; from its acceptance to the log line of its first step
  local created stepped
  created=$("$build/bin/weft" get job "$1" -o json | sed -n 's/.*"create_time": "\(.*\)".*/\1/p')
  stepped=$("$build/bin/weft" logs "$1" -o json | tr -d '\n' | sed 's/}{/}\n{/g' |
    grep -m1 'step 1/' | sed 's/.*"time": *"\([^"]*\)".*/\1/')
  awk -v a="$(date -d "$created" +%s.%N)" -v b="$(date -d "$stepped" +%s.%N)" 'BEGIN { printf "%.2f", b - a }'
}

training() {
  echo "\`gemm_share\` is the step's rate of matrix arithmetic as a share of the library's own rate on the same threads."
  "$build/bench/training_bench" --benchmark_min_time=1 2>/dev/null | table
}

submits() {
  echo "Clients that each wait for their answer; medians of repetitions in which SQLite (full sync) and PostgreSQL (as it is"
  echo "shipped, on the same disk, on a Unix socket) take turns. Absolute rates belong to the disk, the ratios to us."
  "$build/bench/submit_bench" 2>/dev/null | table
}

first_step() {
  export WEFT_STATE_DIR="$state"
  "$build/bin/weft" up --any-port --workers 2 >"$state/up.log" 2>&1 &
  until grep -q '^coordinator at' "$state/up.log"; do sleep 0.1; done
  sed 's/steps: 150/steps: 25/' docs/examples/demo.yaml >"$state/job.yaml"
  local job program
  for _ in 1 2 3; do
    job=$("$build/bin/weft" submit "$state/job.yaml" -o name)
    "$build/bin/weft" watch "$job" >/dev/null
    echo "- $(first_step_seconds "$job") s, the demo's model on two workers that exchange over MPI, its first step included"
  done
  echo
  echo "Resident memory when idle:"
  echo
  for program in weft-coordinator weft-worker; do
    echo "- \`$program\`: $(($(ps -C $program -o rss= | sort -n | tail -n 1) / 1024)) MiB"
  done
}

attention() { "$build/bench/attention_bench" --benchmark_min_time=0.05 2>/dev/null | table; }

section() { # $1: its title, $2: the function that prints it; or as it stands in the page, when another one is asked for
  if [ -n "$only" ] && [ "$only" != "$1" ]; then
    awk -v title="## $1" '/^## / { inside = $0 == title } inside' "$page"
    return
  fi
  echo "## $1"
  echo
  echo "On $(nproc) cores of $(sed -n 's/^model name\t*: //p' /proc/cpuinfo | head -n 1)."
  echo
  "$2"
  echo
}

{
  echo "# Benchmarks"
  echo
  echo "Made by \`deploy/dev/bench.sh\`, each section as a whole on the machine that it names."
  echo
  section "Whole training steps" training
  section "Durable submits over gRPC" submits
  section "From submit to the first step" first_step
  section "Attention on CPU" attention
} | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' >"$page.new"
mv "$page.new" "$page"
echo "wrote $page"
