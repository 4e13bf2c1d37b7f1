#!/usr/bin/env bash
# Installs what the tests need, builds everything and runs all tests.
#   deploy/test.sh [ctest arguments ...]      for example: deploy/test.sh -L simulation
# The last lines are ctest's.
set -euo pipefail
cd "$(dirname "$0")/.."
deploy/install_packages.sh test
deploy/build.sh ci
exec ctest --preset ci -j "$(nproc)" "$@"
