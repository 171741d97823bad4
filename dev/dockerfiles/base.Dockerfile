# A stand-in for python:3.11-slim where no public image can be pulled: a minimal Debian with its Python.
FROM scratch
COPY rootfs /
ENV LANG=C.UTF-8
CMD ["python3"]
