# Plain Ray. It replaces rayproject/ray on machines without Docker. Each job uploads the library of this project.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ARG RAY_VERSION
RUN useradd --uid 1000 --gid 100 --create-home --shell /bin/bash ray \
    && pip install --no-cache-dir "ray[default]==${RAY_VERSION}"
USER 1000:100
WORKDIR /home/ray
