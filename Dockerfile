# The command `dawn`, with the checkpoint that ships.
#
#   docker build --tag dawn .                                for CPUs
#   docker build --tag dawn --build-arg VARIANT=cuda .       for NVIDIA GPUs
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/data" dawn \
#       animate --image portrait.png --audio speech.wav -o talking.mp4
#
# With a GPU, add `--gpus all` to `docker run`. Checkpoints of the Hub are kept in
# your own cache by `--volume "$HOME/.cache:/tmp/.cache"`.
FROM python:3.11-slim-bookworm
ARG VARIANT=cpu
# whoever `--user` names has no home here, and libraries cache there
ENV HOME=/tmp

# what the face detector needs of the system
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

# PyPI's torch for Linux brings CUDA; torch's own index has one without
RUN case "$VARIANT" in \
        cpu) pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch==2.13.0 ;; \
        cuda) pip install --no-cache-dir torch==2.13.0 ;; \
        *) echo "VARIANT is $VARIANT, must be cpu or cuda" >&2; exit 1 ;; \
    esac

COPY setup.cfg pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN pip install --no-cache-dir "/source[face]" && rm -r /source

WORKDIR /data
ENTRYPOINT ["dawn"]
CMD ["--help"]
