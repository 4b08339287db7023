# Three images from one file; each has all packages of the one before:
#   gateway     HTTP, keeper, migrations, and ffmpeg to read a frame of a clip; no model library
#   worker-cpu  the camera engine: numpy, no torch
#   worker      the model engines: torch with CUDA, about 8 GB
# The packages come first and our code last, so that a rebuild after a change of code takes seconds.
# Each file that pip installs is pinned by its hash, for x86-64 and ARM64, except torch. After a
# change of a pin, `make lock` writes the lock files again. Where docker is installed, it also writes
# the current digest behind each tag; the tags have none yet, because this file was written on a
# machine that could not pull images.

FROM python:3.11-slim-trixie AS base
# For a package index of your own: --build-arg PIP_INDEX_URL=... The image's history shows it, so
# it must not contain a password.
ARG PIP_INDEX_URL
ENV HOME=/tmp \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN groupadd --gid 10001 stillreel \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp stillreel
WORKDIR /app

FROM base AS gateway-packages
COPY requirements/gateway.lock requirements/
# HEIC=0 leaves out the reader of HEIC files, and with it an encoder under the GPL (see NOTICE).
ARG HEIC=1
RUN pip install --no-deps --require-hashes --requirement requirements/gateway.lock \
    && if [ "$HEIC" = 0 ]; then pip uninstall --yes pillow-heif; fi \
    && pip check

FROM gateway-packages AS camera-packages
COPY requirements/worker-cpu.lock requirements/
ARG HEIC=1
RUN pip install --no-deps --require-hashes --requirement requirements/worker-cpu.lock \
    && if [ "$HEIC" = 0 ]; then pip uninstall --yes pillow-heif; fi \
    && pip check

FROM camera-packages AS model-packages
# torch.compile builds a small launcher in C for each kind of kernel. Any version of the compiler
# works; a pinned version would be removed from Debian's mirrors some day.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
# torch has a layer of its own, the largest one, so that a new version of another library does not
# rebuild it. It is pinned by version and not by hash, and so are its CUDA libraries: local/lock.py
# says why.
COPY constraints.txt ./
RUN pip install --constraint constraints.txt torch
COPY requirements/worker.lock requirements/
ARG HEIC=1
RUN pip install --no-deps --require-hashes --requirement requirements/worker.lock \
    && if [ "$HEIC" = 0 ]; then pip uninstall --yes pillow-heif; fi \
    && pip check

FROM gateway-packages AS gateway
COPY . .
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 7860
CMD ["python", "-m", "api"]

FROM camera-packages AS worker-cpu
COPY . .
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["python", "-m", "worker"]

FROM model-packages AS worker
# `utility` brings nvidia-smi, which finds the cards.
# Compiled code cannot be in /tmp, because no code may run from a tmpfs.
# Earlier versions kept the weights in HF_HOME; files that are there are not downloaded again.
ENV STILLREEL_WEIGHTS_DIR=/models/weights \
    HF_HOME=/models \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TORCHINDUCTOR_CACHE_DIR=/compiled
RUN install --directory --owner=10001 --group=10001 /models /compiled
COPY . .
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["python", "-m", "worker"]
