# The node as a container: the packages of a release, in two stages so that no build tool ships.
#   docker build -t qc-node .        docker run --rm qc-node demo --once
FROM python:3.11-slim-bookworm AS build
# The CPU build of torch.  For an NVIDIA GPU: --build-arg LOCK=requirements.txt (some gigabytes of CUDA).
ARG LOCK=requirements-cpu.txt
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/qc-node && python -m venv /opt/build
# What is installed is what `make lock` pinned, byte for byte.
COPY deploy/requirements-build.txt deploy/${LOCK} deploy/
RUN /opt/build/bin/pip install --require-hashes -r deploy/requirements-build.txt \
 && /opt/qc-node/bin/pip install --require-hashes -r "deploy/${LOCK}" --extra-index-url "${TORCH_INDEX}"
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY deploy/qc-node.toml deploy/
COPY models models
COPY qc_node qc_node
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheels . \
 && /opt/qc-node/bin/pip install --no-deps /tmp/wheels/qc_node-*.whl

FROM python:3.11-slim-bookworm
RUN groupadd --system --gid 11112 qc-node \
 && useradd --system --uid 11112 --gid 11112 --home-dir /var/lib/qc-node --shell /usr/sbin/nologin qc-node \
 && install -d -o qc-node -g qc-node -m 0750 /var/lib/qc-node
COPY --from=build /opt/qc-node /opt/qc-node
# In a container every interface is the container's own: what is published decides who gets in.
ENV PATH=/opt/qc-node/bin:$PATH PYTHONUNBUFFERED=1 \
    QC_NODE_NODE__HOST=0.0.0.0 QC_NODE_METRICS__HOST=0.0.0.0 \
    QC_NODE_NODE__DATA_DIR=/var/lib/qc-node QC_NODE_NODE__LOG_FORMAT=json
USER 11112:11112
WORKDIR /var/lib/qc-node
VOLUME /var/lib/qc-node
EXPOSE 11112 8080 9108
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9108/healthz', timeout=8)"]
ENTRYPOINT ["qc-node"]
CMD ["run"]
