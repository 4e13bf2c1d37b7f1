#!/usr/bin/env bash
# Installs what the tests need, builds everything and runs all tests.
#   deploy/test.sh [--images] [ctest arguments ...]      for example: deploy/test.sh -L simulation
# --images: the images too, built by buildah and run: minutes, a large download, root that may mount.
# The last lines are ctest's.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=test images=OFF
if [ "${1:-}" = --images ]; then
  shift
  packages=images images=ON
fi
deploy/install_packages.sh "$packages"
deploy/build.sh ci "$(nproc)" -DWEFT_TEST_IMAGES="$images"
exec ctest --preset ci -j "$(nproc)" "$@"
