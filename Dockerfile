# The notebooks in a container: JupyterLab, vLLM and the offline reranker, ready to be used.
#
#   docker build --target cpu --tag score-notebooks:cpu .
#   docker run -it --name score-notebooks --shm-size 1g -p 127.0.0.1:8888:8888 score-notebooks:cpu
#
# With an NVIDIA GPU, its driver and NVIDIA's container toolkit:
#
#   docker build --target gpu --tag score-notebooks:gpu .
#   docker run -it --name score-notebooks --gpus all --shm-size 1g -p 127.0.0.1:8888:8888 \
#     --volume score-hub:/home/learner/.cache/huggingface score-notebooks:gpu
#
# JupyterLab prints addresses with a token: open the one that begins with http://127.0.0.1. What a
# learner changes stays in the container: `docker start -ai score-notebooks` opens it again.
# Without 127.0.0.1 after -p, the port is open to the whole network. --shm-size: PyTorch's processes
# share memory, and Docker gives them only 64 MB. --volume keeps the model that a GPU downloads.

# The Python that the pins were made with.
FROM python:3.11.13-slim-bookworm AS base

# libnuma1: vLLM's CPU build is linked to it. g++: Triton and PyTorch compile on a GPU. openssl:
# notebook 11 makes a certificate. tini: reaps servers whose notebook has gone.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git libnuma1 make openssl tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --shell /bin/bash learner \
    && install --directory --owner learner --group learner \
        /home/learner/vllm-score-notebooks /home/learner/.cache /home/learner/.cache/huggingface
USER learner
WORKDIR /home/learner/vllm-score-notebooks


# What the set-up reads, and no more: a change of a notebook does not install vLLM again.
FROM base AS sources

COPY --chown=learner:learner Makefile pyproject.toml README.md LICENSE ./
COPY --chown=learner:learner requirements requirements/
COPY --chown=learner:learner scripts/setup_env.py scripts/floors.py scripts/
COPY --chown=learner:learner src src/

# As `make lab` does it, but listening to the outside of the container. There the port is that of
# this machine alone, if it is published as above; the token is asked for all the same.
ENV PATH=/home/learner/vllm-score-notebooks/.venv/bin:$PATH \
    VIRTUAL_ENV=/home/learner/vllm-score-notebooks/.venv \
    JUPYTER_PREFER_ENV_PATH=1
EXPOSE 8888
ENTRYPOINT ["tini", "-g", "--"]
CMD ["jupyter", "lab", "--ServerApp.ip=0.0.0.0", "--ServerApp.port=8888", "--no-browser", \
     "--ServerApp.root_dir=/home/learner/vllm-score-notebooks", \
     "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"]


FROM sources AS gpu

# What NVIDIA's container toolkit brings in: the driver's libraries and nvidia-smi. With an older
# driver than CUDA 13 needs, the toolkit says so and does not start the container.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_REQUIRE_CUDA=cuda>=13.0
RUN PIP_NO_CACHE_DIR=1 make setup PROFILE=gpu
# Merge the offline reranker, so that the first launch finds it ready.
RUN python -c "from helpers.server import offline_model_path; offline_model_path()"
COPY --chown=learner:learner . .


FROM sources AS cpu

RUN PIP_NO_CACHE_DIR=1 make setup PROFILE=cpu
# Merge the offline reranker, so that the first launch finds it ready.
RUN python -c "from helpers.server import offline_model_path; offline_model_path()"
COPY --chown=learner:learner . .
