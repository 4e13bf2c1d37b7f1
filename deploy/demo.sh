#!/usr/bin/env bash
# From nothing to a trained model: installs what is missing, builds a release, starts a coordinator and two
# workers on this machine, trains a small language model on text, and lets it write.
#   deploy/demo.sh [--text FILE|FOLDER ...] [--state-dir DIR] [--jobs N]
# The text is the licences that come with every Debian unless --text names another. A second run uses the
# build of the first.
set -euo pipefail
root=$(realpath -- "$(dirname "$0")/..")

state="${WEFT_STATE_DIR:-$root/build/demo-state}"
jobs=$(nproc)
texts=()
while [ $# -gt 0 ]; do
  case "$1" in
    --text)
      shift
      while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do texts+=("$(realpath -e -- "$1")"); shift; done
      [ ${#texts[@]} -gt 0 ] || { echo "--text needs at least one file or folder" >&2; exit 2; } ;;
    --state-dir) state=${2:?--state-dir needs a folder}; shift 2 ;;
    --jobs) jobs=${2:?--jobs needs a number}; shift 2 ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "unknown argument: $1 (see $0 --help)" >&2; exit 2 ;;
  esac
done
# Arguments are relative to where the caller stands, what follows to the tree.
state=$(realpath -m -- "$state")
cd "$root"

say() { printf '\n== %s\n' "$*"; }
started=$SECONDS

deploy/install_packages.sh run
say "building"
deploy/build.sh release "$jobs"
weft=build/release/bin/weft
export WEFT_STATE_DIR="$state"

mkdir -p "$state"
job="$state/demo.yaml"
cp docs/examples/demo.yaml "$job"
if [ ${#texts[@]} -gt 0 ]; then
  # A JSON list is a YAML list, and quoting is settled.
  paths=$(printf '%s\n' "${texts[@]}" | sed 's/[\\"]/\\&/g; s/.*/"&"/' | paste -sd, -)
  paths=$(printf '%s' "$paths" | sed 's/[\\&|]/\\&/g')
  sed -i "s|^    paths: .*|    paths: [$paths]|" "$job"
fi

say "starting a coordinator and two workers (state in $state)"
"$weft" up --state-dir "$state" --workers 2 --any-port >"$state/up.log" 2>&1 &
cluster=$!
stop() { kill -TERM "$cluster" 2>/dev/null || true; wait "$cluster" 2>/dev/null || true; }
trap stop EXIT
for _ in $(seq 300); do
  grep -q '^coordinator at' "$state/up.log" && break
  kill -0 "$cluster" 2>/dev/null || { cat "$state/up.log" >&2; exit 1; }
  sleep 0.1
done
"$weft" get workers

say "training ($((SECONDS - started)) s so far)"
name=$("$weft" submit "$job" -o name)
"$weft" watch "$name"

say "its checkpoints"
"$weft" get checkpoints "$name"

say "what it writes"
"$weft" sample "$name" --prompt "The " --tokens 300 --temperature 0.7

say "done in $((SECONDS - started)) s"
