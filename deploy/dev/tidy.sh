#!/usr/bin/env bash
# Builds with Clang (thread-safety analysis) and runs clang-tidy.
#   deploy/dev/tidy.sh [FILE ...]     without files: all sources
set -euo pipefail
cd "$(dirname "$0")/../.."
cmake --preset tidy >/dev/null
if [ $# -gt 0 ]; then
  files=("$@")
else
  mapfile -t files < <(git ls-files -- '*.cc')
fi
# Generated headers must exist before a source that includes them can be read.
cmake --build build/tidy --target weft_proto weft_proto_grpc >/dev/null
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy-14 -p build/tidy --quiet
