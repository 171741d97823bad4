# A minimal Debian with Python. It replaces python:3.11-slim on machines without Docker. debootstrap creates rootfs.
FROM scratch
COPY rootfs /
ENV LANG=C.UTF-8
CMD ["python3"]
