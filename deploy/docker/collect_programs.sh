#!/usr/bin/env bash
# Puts the programs of a build, stripped, into a folder that images are made from:
#   deploy/docker/collect_programs.sh build/release FOLDER
set -euo pipefail
build=$1 target=$2
mkdir -p "$target"
for program in "$build"/bin/weft*; do
  install -s -m 0755 "$program" "$target/"
done
