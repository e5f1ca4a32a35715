# syntax=docker/dockerfile:1
#
# Three images from one file, each run by a numeric user without rights and fit for a read-only root file system:
#
#   docker build --target api .                              the HTTP face; no torch, no ONNX Runtime
#   docker build --target worker .                           the engine on an NVIDIA GPU
#   docker build --target worker --build-arg DEVICE=cpu .    the engine on a machine without one
#   docker build --target training .                         the offline package
#
# DEVICE is `cuda` (the default) or `cpu`. It chooses the worker's base image and, under the same name, the extra of
# pyproject.toml that brings ONNX Runtime. The image sets it as the DEVICE that the worker reads at run time: a worker
# that is built for CUDA and finds none never calls itself ready.
ARG DEVICE=cuda
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG CUDA_IMAGE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04

# ---- bases: Python 3.12 on both, with what every image of ours sets ------------------------------------------------
# The user has a name only because Celery warns of a group that has none.

FROM ${PYTHON_IMAGE} AS base-cpu
ENV PATH=/opt/contrafact/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
RUN groupadd --gid 10001 contrafact && useradd --uid 10001 --gid 10001 --no-create-home contrafact

FROM ${CUDA_IMAGE} AS base-cuda
ENV PATH=/opt/contrafact/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3.12 python3.12-venv \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 contrafact && useradd --uid 10001 --gid 10001 --no-create-home contrafact

# ---- builds: one virtual environment each; pip's cache stays on the build machine ----------------------------------

FROM base-cpu AS build-api
COPY . /src
RUN --mount=type=cache,target=/tmp/.cache/pip \
    python3 -m venv /opt/contrafact && /opt/contrafact/bin/pip install "/src[oidc,otel]"

# A stage of this file, not an image without a tag:
# hadolint ignore=DL3006
FROM base-${DEVICE} AS build-worker
ARG DEVICE
COPY . /src
RUN --mount=type=cache,target=/tmp/.cache/pip \
    python3 -m venv /opt/contrafact && /opt/contrafact/bin/pip install "/src[${DEVICE},otel]"

FROM base-cpu AS build-training
COPY . /src
RUN --mount=type=cache,target=/tmp/.cache/pip \
    python3 -m venv /opt/contrafact && /opt/contrafact/bin/pip install "/src[cpu,training]"

# ---- api -----------------------------------------------------------------------------------------------------------

FROM base-cpu AS api
COPY --from=build-api /opt/contrafact /opt/contrafact
COPY models/bundles /srv/bundles
# Where Compose mounts the volume of the audit log, which takes over the owner of this folder.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/contrafact
# Every address of the container; the service refuses that without keys, and so asks for them.
ENV BUNDLES_DIR=/srv/bundles HOST=0.0.0.0 PORT=8000 KEYS=broker
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/live', timeout=4)"]
CMD ["python3", "-m", "app", "api"]

# ---- worker --------------------------------------------------------------------------------------------------------

# A stage of this file, not an image without a tag:
# hadolint ignore=DL3006
FROM base-${DEVICE} AS worker
ARG DEVICE
COPY --from=build-worker /opt/contrafact /opt/contrafact
COPY models/bundles /srv/bundles
ENV BUNDLES_DIR=/srv/bundles DEVICE=${DEVICE}
USER 10001:10001
# Healthy: a process of this worker has replayed its golden pairs and is alive.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python3", "-c", "import socket; from workers.broker import redis_client; from workers.layout import ready_key; from workers.settings import Settings; next(redis_client(Settings(), retries=0).scan_iter(ready_key(f'{socket.gethostname()}:*')))"]
CMD ["python3", "-m", "workers"]

# ---- training ------------------------------------------------------------------------------------------------------

FROM base-cpu AS training
COPY --from=build-training /opt/contrafact /opt/contrafact
# Configs are found here, and data, runs and the store of bundles mounted here.
WORKDIR /srv
COPY training/configs training/configs
USER 10001:10001
ENTRYPOINT ["python3", "-m", "training"]
CMD ["--help"]
