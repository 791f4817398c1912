# Debian: cel-expr-python, the engine of filters, has no wheels for Alpine.
# Python 3.11: of 3.11, 3.12 and 3.13 it takes the least CPU for a publish and the least memory (docs/performance.md,
# Interpreters).
FROM python:3.11-slim AS base

# The environment of the image. It gets only wheels, checked against the lock file: a package that needs a compiler fails
# here.
FROM base AS build
RUN python -m venv --without-pip /opt/pubsub
WORKDIR /src
COPY requirements.lock .
RUN pip --python /opt/pubsub install --no-cache-dir --require-hashes --only-binary :all: --requirement requirements.lock
# The lock file fixes the build backend too. The wheel needs nothing else of the developers' lock file.
COPY requirements-dev.lock .
RUN sed -n '/^setuptools==/,/# via/p' requirements-dev.lock > build.lock \
    && pip install --no-cache-dir --require-hashes --requirement build.lock
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY pubsub pubsub
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/pubsub install --no-cache-dir --no-deps --no-index dist/*.whl

FROM base
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin pubsub \
    && install --directory --owner pubsub --group pubsub /data
COPY --from=build /opt/pubsub /opt/pubsub
ENV PATH=/opt/pubsub/bin:$PATH DATA_DIR=/data
VOLUME /data
EXPOSE 8080
# A number, so that an orchestrator can see without a passwd file that it is not root.
USER 10001
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-m", "pubsub", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "pubsub"]
CMD ["serve"]
