#!/usr/bin/env bash
# Measures the memory of activations and writes docs/memory.md.
#   deploy/dev/memory.sh [BUILD_DIR]      default: build/ci
# Takes minutes; other work on the machine changes the times but not the memory.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(realpath "${1:-build/ci}")
page=docs/memory.md
{
  cat <<'TEXT'
# Memory for long sequences

Made by `deploy/dev/memory.sh`, which runs `memory_bench` (`worker/train/memory_bench.cc`).

Peak memory, in MiB, of a forward and backward pass over one sequence, beside weights and gradients: two layers of width 32
with two heads, an MLP of 64, a vocabulary of 64, fp32, two threads. *whole*: all activations are kept. *slices*:
`memory.slice_length: 4096` (see [the job spec](job_spec.md#memoryspec)), the activations of one slice.

In slices, what still grows is what a token has of its own outside the model (two numbers for its loss), and for
performer and delta the states between the slices, which are kept because they cannot be computed backwards. The same on
a GPU, to a million tokens: [performance](performance.md#long-sequences-in-slices).

TEXT
  "$build/bench/memory_bench" --benchmark_format=csv 2>/dev/null | awk -F, '
    /^"/ {
      gsub(/"/, "", $1); split($1, part, "/"); column = part[1] " " part[2]; tokens = part[3]
      if (!(column in seen)) { seen[column] = 1; columns[++width] = column }
      if (!(tokens in known)) { known[tokens] = 1; rows[++height] = tokens }
      peak[column, tokens] = $NF
    }
    END {
      printf "| tokens |"; for (c = 1; c <= width; ++c) printf " %s |", columns[c]
      printf "\n|---:|"; for (c = 1; c <= width; ++c) printf "---:|"
      printf "\n"
      for (r = 1; r <= height; ++r) {
        printf "| %d |", rows[r]
        for (c = 1; c <= width; ++c) printf " %.1f |", peak[columns[c], rows[r]]
        printf "\n"
      }
    }'
} >"$page.new"
mv "$page.new" "$page"
echo "wrote $page"
