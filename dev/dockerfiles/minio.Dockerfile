FROM scratch
COPY minio /usr/bin/minio
USER 1000:1000
ENTRYPOINT ["/usr/bin/minio"]
CMD ["server", "/data"]
