# The image of CUDA workers: that of CPU workers, with cuBLASLt, NCCL and programs that were built with CUDA.
#   docker build -f deploy/docker/Dockerfile --target worker-cpu -t weft/worker-cpu:VERSION .
#   docker build -f deploy/docker/cuda.Dockerfile --build-arg WORKER=weft/worker-cpu:VERSION -t weft/worker-cuda:VERSION .
#
# The toolkit comes from PyPI, where NVIDIA publishes it, so that base, compiler and libraries are those of the other
# images. The driver's part comes from the host, through NVIDIA's container toolkit.
# Behind a proxy with an authority of its own: --secret id=authorities,src=/etc/ssl/certs/ca-certificates.crt
# Programs that are built already, with CUDA: --build-context compiled=FOLDER, as for the other images.
ARG BASE=docker.io/library/debian:bookworm-slim
ARG WORKER=weft/worker-cpu:0.1.0

FROM ${BASE} AS toolkit
RUN --mount=type=bind,source=deploy/docker,target=/docker --mount=type=secret,id=authorities \
  --mount=type=cache,target=/var/cache/wheels \
  /docker/install_cuda.sh /usr/local/cuda

FROM toolkit AS compiled
WORKDIR /source
COPY . .
RUN deploy/install_packages.sh run && PATH=/usr/local/cuda/bin:$PATH deploy/build.sh release \
  && deploy/docker/collect_programs.sh build/release /programs

FROM ${WORKER} AS worker-cuda
USER 0:0
COPY --from=toolkit /usr/local/cuda/runtime/ /usr/local/cuda/lib/
COPY --from=compiled /programs/weft /programs/weft-worker /programs/weft-rank /programs/weft-relay /programs/weft-rsh \
  /programs/weft-data /usr/bin/
RUN echo /usr/local/cuda/lib >/etc/ld.so.conf.d/cuda.conf && ldconfig && rm -f /var/cache/ldconfig/aux-cache
USER 10001:10001
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
