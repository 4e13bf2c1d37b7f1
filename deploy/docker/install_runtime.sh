#!/bin/sh
# In an image: the Debian packages that a kind of program runs on, and nothing that changes from build to build.
set -eu
common='libgrpc++1.51 libprotobuf32 libabsl20220623 libyaml-cpp0.7 libssl3 zlib1g libpng16-16'
served='libprometheus-cpp-core1.0 libcivetweb1 libspdlog1.10'
case "$1" in
  coordinator) packages="$common $served libsqlite3-0 sqlite3 libpq5" ;;
  worker) packages="$common $served libdnnl2 libsentencepiece0 openmpi-bin tini" ;;
  *) echo "no such kind: $1" >&2; exit 2 ;;
esac
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $packages >/dev/null
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old /var/lib/dpkg/*-old \
  /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /usr/share/doc /usr/share/man /usr/share/lintian
