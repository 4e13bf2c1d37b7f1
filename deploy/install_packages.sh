#!/usr/bin/env bash
# Installs the Debian packages that Weft needs and that are not there yet.
#   deploy/install_packages.sh run     what building and running needs
#   deploy/install_packages.sh test    that, and what the tests and the linters need
set -euo pipefail

run_packages=(
  g++ cmake ninja-build pkg-config ccache mold ca-certificates
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev
  prometheus-cpp-dev libcurl4-openssl-dev zlib1g-dev libssl-dev libsqlite3-dev libspdlog-dev libcli11-dev
  libyaml-cpp-dev nlohmann-json3-dev libdnnl-dev libpng-dev libsentencepiece-dev
  openmpi-bin libopenmpi-dev)
test_packages=(
  libgtest-dev libgmock-dev libbenchmark-dev clang-format-14 clang-tidy-14 clang-14 curl sqlite3 procps
  binutils python3 python3-yaml prometheus)

packages=("${run_packages[@]}")
case "${1:-run}" in
  run) ;;
  test) packages+=("${test_packages[@]}") ;;
  *) echo "usage: $0 [run|test]" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" != 0 ]; then
  echo "these Debian packages are missing; install them as root and try again:" >&2
  echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "installing ${#missing[@]} Debian packages ..."
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "could not install: ${missing[*]}" >&2
  exit 1
fi
