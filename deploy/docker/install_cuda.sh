#!/bin/sh
# In an image: the CUDA toolkit from PyPI, in the layout that build systems look for, and in FOLDER/runtime the libraries
# that programs need when they run.
set -eu
target=$1
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends ca-certificates python3-pip >/dev/null
if [ -e /run/secrets/authorities ]; then export PIP_CERT=/run/secrets/authorities; fi
# A gigabyte that lies in a mount of the build's cache: downloaded once.
python3 -m pip download --quiet --no-cache-dir --no-deps --dest /var/cache/wheels -r /docker/cuda_requirements.txt
python3 -m pip install --quiet --no-cache-dir --no-deps --root-user-action=ignore --no-index --find-links /var/cache/wheels \
  --target /wheels -r /docker/cuda_requirements.txt
mkdir -p "$target/runtime"
cp -a /wheels/nvidia/cu13/. "$target/"
cp -a /wheels/nvidia/nccl/include/. "$target/include/"
cp -a /wheels/nvidia/nccl/lib/. "$target/lib/"
rm -rf /wheels /var/lib/apt/lists/*
ln -s lib "$target/lib64"
for library in "$target"/lib/*.so.*; do # what linkers look for
  name=${library##*/}
  [ -e "$target/lib/${name%%.so.*}.so" ] || ln -s "$name" "$target/lib/${name%%.so.*}.so"
done
cp -a "$target"/lib/libcublasLt.so.* "$target"/lib/libnccl.so.* "$target/runtime/"
