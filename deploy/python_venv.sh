#!/usr/bin/env bash
# Makes the Python environment of the tests from tests/requirements.txt, unless it is there. It lies beside the
# compiler's cache (~/.cache/weft), so that all working copies share it; build/python is a link to it.
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/weft"
venv=$cache/python-$(sha256sum <tests/requirements.txt | cut -c1-16)
mkdir -p build "$cache"
exec 9>"$venv.lock"
flock 9 # two working copies at once
if [ ! -e "$venv/complete" ]; then
  echo "installing the Python packages of the tests ..."
  rm -rf "$venv"
  python3 -m venv "$venv"
  # Every package is named with its version: nothing is left to resolve.
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r tests/requirements.txt
  touch "$venv/complete"
fi
ln -sfn "$venv" build/python
