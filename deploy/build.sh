#!/usr/bin/env bash
# Configures and builds one preset:  deploy/build.sh [preset] [jobs] [further arguments of cmake ...]
set -euo pipefail
cd "$(dirname "$0")/.."
preset="${1:-release}"
jobs="${2:-$(nproc)}"
log="build/$preset-configure.log"
mkdir -p build
if ! cmake --preset "$preset" "${@:3}" >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  exit 1
fi
sed -n '/part  *state/,/^-- *$/p' "$log"
cmake --build --preset "$preset" -j "$jobs"
