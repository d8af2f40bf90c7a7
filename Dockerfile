# One recipe for all images:  docker build --build-arg SERVICE=chat --tag meshwright/chat .
# SERVICE is gateway, chat, orchestrator, rag, tool-exec, session, model-router, or cli: the command
# with everything, for `migrate` and for all in one. Workers are the images of their services.
# docs/images.md says how they are run, and what was tried.

# Pinned by its digest, which decides; the tag is for people. Another one: --build-arg BASE=…
ARG BASE=docker.io/library/python:3.11.15-slim-bookworm@sha256:b18992999dbe963a45a8a4da40ac2b1975be1a776d939d098c647482bcad5cba

# --- What has a compiler's view of the world: never shipped -----------------------------------
FROM ${BASE} AS builder
ENV PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /build

# The same for every SERVICE, so built once. Every file is checked against its hash.
COPY requirements/bootstrap.txt requirements/run.txt requirements/
COPY infra/images/cyclonedx.txt infra/images/
RUN python3 -m venv /opt/tools \
    && /opt/tools/bin/python -m pip install --quiet --require-hashes -r requirements/bootstrap.txt \
    && /opt/tools/bin/uv venv --quiet --python "$(command -v python3)" /opt/sbom \
    && /opt/tools/bin/uv pip sync --quiet --python /opt/sbom --require-hashes infra/images/cyclonedx.txt \
    && /opt/tools/bin/uv venv --quiet --python "$(command -v python3)" /opt/meshwright \
    && /opt/tools/bin/uv pip sync --quiet --python /opt/meshwright --require-hashes requirements/run.txt

# Our own code, built by the locked hatchling; then what this one does not need goes again.
COPY protos protos
COPY libs libs
COPY services services
COPY infra/images infra/images
ARG SERVICE
RUN PATH="/opt/tools/bin:$PATH" infra/images/assemble.sh "${SERVICE:?say --build-arg SERVICE=…}" /opt/meshwright /opt/sbom

# --- What is shipped: Python, one environment, two scripts ------------------------------------
FROM ${BASE} AS runtime
# PostgreSQL wants its user to have a name (all in one). Nothing in the image belongs to it.
RUN groupadd --gid 10001 meshwright \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin meshwright \
    && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=builder /opt/meshwright /opt/meshwright
COPY --chmod=0755 infra/images/run infra/images/health /usr/local/bin/

ARG SERVICE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="meshwright/${SERVICE}" \
      org.opencontainers.image.description="Meshwright, a production agent platform: ${SERVICE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# Compiled at build time: a read-only root could not keep what is compiled later. The folder in which
# a process stands is not searched for code.
ENV PATH=/opt/meshwright/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    MESHWRIGHT_DATA=/data \
    MESHWRIGHT_IMAGE=${SERVICE}
# Written to: /tmp by all (a tmpfs of 64 MB), /data by the all-in-one (a volume). No VOLUME: Docker
# would make a nameless one for each container that needs none.
WORKDIR /data
USER 10001:10001
EXPOSE 8080 9464 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["health"]
ENTRYPOINT ["run"]
