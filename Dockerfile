# Three images: training (with torch), gpu (ONNX Runtime on CUDA) and, the default, service.
#
#     docker build -t surprisal .
#     docker build -t surprisal-training --target training .
#     docker build -t surprisal-gpu --target gpu .

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY deploy/requirements.txt ./
RUN python -m venv --without-pip /opt/surprisal \
    && pip --python /opt/surprisal/bin/python install --require-hashes --only-binary=:all: -r requirements.txt
# Of pyarrow what nothing here loads: headers, tests, Flight.
RUN rm -r /opt/surprisal/lib/python3.11/site-packages/pyarrow/include \
          /opt/surprisal/lib/python3.11/site-packages/pyarrow/tests \
          /opt/surprisal/lib/python3.11/site-packages/pyarrow/*flight*
COPY pyproject.toml README.md LICENSE ./
COPY bundle bundle
COPY reading reading
COPY surprisal surprisal
COPY service service
COPY training training
RUN pip --python /opt/surprisal/bin/python install --no-deps .


FROM build AS build-training
COPY constraints.txt ./
# The usual index serves torch with CUDA, of several gigabytes; name another one to have it for the CPU.
ARG PIP_EXTRA_INDEX_URL
RUN pip --python /opt/surprisal/bin/python install --constraint constraints.txt '.[training]'


FROM python:3.11-slim AS base
LABEL org.opencontainers.image.title="Surprisal" \
      org.opencontainers.image.description="Anomaly scores from variational autoencoders" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/surprisal/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Volumes that are new take over the owner of what they hide.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin surprisal \
    && mkdir -p /models /app/demo/models \
    && chown -R surprisal /models /app
WORKDIR /app
ENTRYPOINT ["surprisal"]


FROM base AS training
COPY --from=build-training /opt/surprisal /opt/surprisal
USER 10001
CMD ["--help"]


# Python 3.12 of the distribution; the libraries of CUDA 13 and cuDNN are the image's own.
FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS gpu
LABEL org.opencontainers.image.title="Surprisal on a GPU" \
      org.opencontainers.image.description="Anomaly scores from variational autoencoders" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/surprisal/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SURPRISAL_DEVICE=cuda \
    SURPRISAL_HOST=0.0.0.0 \
    SURPRISAL_MODELS=/models
WORKDIR /build
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY bundle bundle
COPY reading reading
COPY surprisal surprisal
COPY service service
COPY training training
# onnxruntime-gpu shares its folder with onnxruntime, so it comes last.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && python3 -m venv /opt/surprisal \
    && pip install --constraint constraints.txt . \
    && pip uninstall --yes onnxruntime \
    && pip install --no-deps onnxruntime-gpu==1.31.1 \
    && pip uninstall --yes pip \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /build/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin surprisal \
    && mkdir /models && chown surprisal /models
WORKDIR /models
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; \
        u.urlopen(f'http://127.0.0.1:{os.environ.get(\"SURPRISAL_OPS_PORT\") or 8000}/readyz', timeout=2)"]
ENTRYPOINT ["surprisal"]
CMD ["serve"]


FROM base AS service
COPY --from=build /opt/surprisal /opt/surprisal
ENV SURPRISAL_HOST=0.0.0.0 \
    SURPRISAL_MODELS=/models
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; \
        u.urlopen(f'http://127.0.0.1:{os.environ.get(\"SURPRISAL_OPS_PORT\") or 8000}/readyz', timeout=2)"]
CMD ["serve"]
