# Three images from one file, each a little more than the one before:
#   gateway     HTTP, keeper, migrations, and ffmpeg for a frame of a clip: no model library
#   worker-cpu  the camera engine: numpy, no torch
#   worker      the model engines: torch with CUDA, some 8 GB
# The packages come first and our code last, so that a change of code rebuilds seconds of it.
# What pip installs, but torch, is pinned by the hash of each file, for x86-64 and ARM64: `make lock` writes the
# locks anew after a pin has changed, and behind each tag of an image, where docker is there, the
# digest that it has that day. Without one a tag stands alone: this was written where no image
# could be pulled.

FROM python:3.11-slim-trixie AS base
# An index of your own: --build-arg PIP_INDEX_URL=... It shows in the image's history, so none
# with a password in it.
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
# HEIC=0 leaves out what reads HEIC, and with it an encoder under the GPL: see NOTICE.
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
# torch.compile builds a small launcher in C for each kind of kernel. Any version does, and a
# pinned one would leave Debian's mirrors some day.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
# torch first and alone: the largest layer, which no other library's new version rebuilds.
# Pinned by version and not by hash, with the CUDA libraries that it names: see local/lock.py.
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
# nvidia-smi, which finds the cards, is of `utility`.
# Compiled code cannot lie in /tmp: a tmpfs runs no code.
# HF_HOME is where earlier versions had them: what lies there is taken and not fetched again.
ENV STILLREEL_WEIGHTS_DIR=/models/weights \
    HF_HOME=/models \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TORCHINDUCTOR_CACHE_DIR=/compiled
RUN install --directory --owner=10001 --group=10001 /models /compiled
COPY . .
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["python", "-m", "worker"]
