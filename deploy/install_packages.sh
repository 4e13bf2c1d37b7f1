#!/usr/bin/env bash
# Installs the Debian packages that Weft needs and that are not there yet.
#   deploy/install_packages.sh run     what building and running needs
#   deploy/install_packages.sh test    that, and what the tests and the linters need; and build/python from PyPI
#   deploy/install_packages.sh images  that, and what the test of the images needs
set -euo pipefail
cd "$(dirname "$0")/.."

run_packages=(
  g++ cmake ninja-build pkg-config ccache mold ca-certificates
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev
  prometheus-cpp-dev libcurl4-openssl-dev zlib1g-dev libssl-dev libsqlite3-dev libpq-dev libspdlog-dev libcli11-dev
  libyaml-cpp-dev nlohmann-json3-dev libdnnl-dev libpng-dev libagg-dev libsentencepiece-dev
  openmpi-bin libopenmpi-dev)
test_packages=(
  libgtest-dev libgmock-dev libbenchmark-dev clang-format-14 clang-tidy-14 clang-14 curl sqlite3 postgresql procps
  binutils openssl python3 python3-venv python3-yaml prometheus)
images_packages=(buildah debootstrap)

packages=("${run_packages[@]}")
case "${1:-run}" in
  run) ;;
  test) packages+=("${test_packages[@]}") ;;
  images) packages+=("${test_packages[@]}" "${images_packages[@]}") ;;
  *) echo "usage: $0 [run|test|images]" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
python_environment() { # of the tests, from PyPI
  [ "${1:-run}" = run ] || deploy/python_venv.sh
}

if [ ${#missing[@]} -eq 0 ]; then
  python_environment "$@"
  exit 0
fi

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
python_environment "$@"
