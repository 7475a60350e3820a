# Two images: `service` (coreset and coreset-service: HTTP, no torch) and `worker` (coreset and coreset-workers: torch with
# CUDA; runs on a CPU too).
#
#   DOCKER_BUILDKIT=1 docker build --target service -t coreset-service:latest .
#   DOCKER_BUILDKIT=1 docker build --target worker  -t coreset-worker:latest .
#
# --build-arg PIP_INDEX_URL=... --build-arg UV_DEFAULT_INDEX=... build from another package index than PyPI;
# --build-arg UV_TORCH_BACKEND=cpu builds a much smaller worker that cannot use a GPU.

FROM python:3.11-slim-bookworm AS python
# PYTHONSAFEPATH: `python -m` does not import files of the current folder.
ENV VIRTUAL_ENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
# /data is made here so that a new volume there belongs to the user.
RUN python -m venv --without-pip /opt/venv \
    && useradd --uid 10001 --create-home coreset \
    && install -d -o coreset -g coreset /data
WORKDIR /home/coreset

# uv is lent to the stages below by a mount, so it is in no image.
FROM python AS uv
ARG PIP_INDEX_URL
WORKDIR /build
COPY constraints.txt .
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/uv && /opt/uv/bin/pip install -c constraints.txt uv

FROM python AS wheel
ARG UV_DEFAULT_INDEX
WORKDIR /build
COPY . .
RUN --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv build --all-packages --wheel --build-constraints constraints.txt --out-dir /wheel

# The libraries of an image change with the pyproject.toml files and constraints.txt only; the code comes after them.
# The override leaves out `coreset` itself, which comes as a wheel.
FROM python AS service
ARG UV_DEFAULT_INDEX
RUN --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=pyproject.toml,target=/build/pyproject.toml \
    --mount=type=bind,source=service/pyproject.toml,target=/build/service/pyproject.toml \
    --mount=type=bind,source=workers/pyproject.toml,target=/build/workers/pyproject.toml \
    --mount=type=bind,source=constraints.txt,target=/build/constraints.txt \
    cd /build && echo "coreset ; python_version < '3'" > /tmp/override \
    && /opt/uv/bin/uv pip install --link-mode copy --compile-bytecode -c constraints.txt --override /tmp/override \
    -r pyproject.toml --extra engine --extra s3 -r service/pyproject.toml && rm /tmp/override
RUN --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv \
    --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /opt/uv/bin/uv pip install --no-cache --no-deps --compile-bytecode \
    /wheel/coreset-*.whl /wheel/coreset_service-*.whl
USER coreset
ENV OMP_WAIT_POLICY=PASSIVE \
    CORESET_HOST=0.0.0.0 \
    CORESET_STORAGE=/data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('CORESET_PORT', 8000)}/healthz\", timeout=4)"]
CMD ["python", "-m", "coreset_service"]

FROM python AS worker
ARG UV_DEFAULT_INDEX
ARG UV_TORCH_BACKEND
RUN --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=pyproject.toml,target=/build/pyproject.toml \
    --mount=type=bind,source=service/pyproject.toml,target=/build/service/pyproject.toml \
    --mount=type=bind,source=workers/pyproject.toml,target=/build/workers/pyproject.toml \
    --mount=type=bind,source=constraints.txt,target=/build/constraints.txt \
    cd /build && echo "coreset ; python_version < '3'" > /tmp/override \
    && /opt/uv/bin/uv pip install --link-mode copy --compile-bytecode -c constraints.txt --override /tmp/override \
    -r pyproject.toml --extra engine --extra s3 -r workers/pyproject.toml --extra hf && rm /tmp/override
RUN --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv \
    --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /opt/uv/bin/uv pip install --no-cache --no-deps --compile-bytecode \
    /wheel/coreset-*.whl /wheel/coreset_workers-*.whl
USER coreset
# NVIDIA_*: what the container toolkit gives to a container that is started with a GPU.
ENV OMP_WAIT_POLICY=PASSIVE \
    CORESET_STORAGE=/data \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
STOPSIGNAL SIGTERM
# Healthy is a worker whose registration in Redis lives: it expires when the worker beats no more.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["python", "-m", "coreset_workers", "--healthy"]
CMD ["python", "-m", "coreset_workers"]
