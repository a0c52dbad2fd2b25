# A machine for scripts/build-models, on any machine with Docker (elsewhere than on x86-64 it is emulated, and slow):
#
#   docker build --platform linux/amd64 -t build-models -f containers/build-models.Dockerfile .
#   docker run --platform linux/amd64 --rm -v "$PWD/build/models:/out" -v build-models:/root/.cache build-models
#
# The bundle is then in build/models. With photographs of your own: add -v "$PWD/photos:/photos:ro" before
# the image's name, and --calibration /photos after it.
FROM debian:12-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /project
COPY . .

ENTRYPOINT ["scripts/build-models", "--out", "/out"]
