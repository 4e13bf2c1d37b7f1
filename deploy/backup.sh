#!/bin/bash
# Backs up what a coordinator knows, while it serves, and restores it.
#   weft-backup save STATE_DIR FILE         FILE: a tar archive, or - for standard output
#   weft-backup restore FILE STATE_DIR      no coordinator may run on it; what is there moves to STATE_DIR/replaced
# Saved are the jobs, queues and drained workers (weft.db, a consistent copy however busy the database is), the step
# histories and the logs. Checkpoints are files of their own: back up their folder as such.
#
# A restored coordinator knows less than happened. So that nothing it places is taken for something older, restore
# moves generations and the number of the last job on by a thousand: running gangs are formed anew, from their newest
# checkpoint, and no new job gets the name, and so the checkpoints, of one that was submitted after the backup.
set -euo pipefail

fail() { echo "weft-backup: $*" >&2; exit 1; }
usage() { sed -n '3,4s/^# *//p' "$0" >&2; exit 2; }

save() {
  local state=$1 target=$2
  [ -f "$state/weft.db" ] || fail "there is no weft.db in $state"
  # Beside the state: in a container there may be no other place to write to.
  work=$(mktemp -d -p "$state" backup.XXXXXX)
  trap 'rm -rf "$work" "$work.tar"' EXIT
  local name
  for name in weft history; do
    [ -f "$state/$name.db" ] || continue
    sqlite3 -cmd '.timeout 30000' "$state/$name.db" ".backup '$work/$name.db'"
    [ "$(sqlite3 "$work/$name.db" 'PRAGMA integrity_check')" = ok ] || fail "the copy of $name.db is damaged"
  done
  # Logs grow meanwhile; what has been written when tar comes by is kept.
  tar -C "$work" -cf "$work.tar" .
  if [ -d "$state/logs" ]; then
    tar -C "$state" --warning=no-file-changed -rf "$work.tar" logs || [ $? = 1 ]
  fi
  if [ "$target" = - ]; then cat "$work.tar"; else mv "$work.tar" "$target"; fi
}

restore() {
  local source=$1 state=$2 name
  [ -f "$source" ] || fail "there is no $source"
  mkdir -p "$state"
  exec 9>>"$state/coordinator.lock"
  flock -n 9 || fail "a coordinator runs on $state: stop it first"
  [ ! -e "$state/replaced" ] || fail "$state/replaced is there from an earlier restore: remove it, or keep it elsewhere"
  # Nothing takes its place before it is complete: a coordinator that served an old state as it was saved would place
  # gangs and jobs under numbers that are taken.
  work=$(mktemp -d -p "$state" restore.XXXXXX)
  trap 'rm -rf "$work"' EXIT
  tar -C "$work" --no-same-owner -xf "$source"
  [ "$(sqlite3 "$work/weft.db" 'PRAGMA integrity_check')" = ok ] || fail "weft.db of $source is damaged"
  sqlite3 -bail "$work/weft.db" <<'SQL'
BEGIN;
UPDATE meta SET last_job = last_job + 1000;
UPDATE jobs SET generation = generation + 1000,
  record = json_set(record, '$.generation', json_extract(record, '$.generation') + 1000)
  WHERE generation > 0 AND state NOT IN ('SUCCEEDED', 'FAILED', 'CANCELLED');
COMMIT;
SQL
  mkdir "$state/replaced"
  for name in weft.db weft.db-wal weft.db-shm history.db history.db-wal history.db-shm logs; do
    [ ! -e "$state/$name" ] || mv "$state/$name" "$state/replaced/"
  done
  # weft.db last: where it is, the rest is.
  for name in logs history.db weft.db; do
    [ ! -e "$work/$name" ] || mv "$work/$name" "$state/"
  done
  echo "restored $(sqlite3 "$state/weft.db" 'SELECT count(*) FROM jobs') jobs into $state"
}

[ $# = 3 ] || usage
case "$1" in
  save | restore) "$@" ;;
  *) usage ;;
esac
