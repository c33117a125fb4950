# The image: one static program, the public authorities' certificates, and nothing else; no
# shell. Runs as 65532, needs no right and writes no file.
#
#   docker build --tag registry.example.com/usher:0.2.0 \
#     --build-arg REVISION="$(git rev-parse HEAD)" \
#     --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" \
#     --build-arg CREATED="$(git log -1 --format=%cI)" \
#     --build-arg SOURCE="https://git.example.com/platform/usher" .
#
# The first two arguments say which source it is; `usher --version` shows them. The others are
# labels.
#
# Where crates come from a mirror of yours, give cargo its configuration and its login as secrets,
# which no layer keeps:
#
#     --secret id=cargo-config,src=$HOME/.cargo/config.toml \
#     --secret id=cargo-credentials,src=$HOME/.cargo/credentials.toml
#
# To have the image itself the same to the byte, let BuildKit set every file's time:
#
#   --output type=image,rewrite-timestamp=true,push=true,name=…

# The compiler's image, for amd64 and arm64. Where it comes from a registry of yours, its digest
# stays: --build-arg RUST=registry.example.com/rust:1.95.0-bookworm@sha256:…
ARG RUST=docker.io/library/rust:1.95.0-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1

FROM ${RUST} AS build
WORKDIR /usher
ENV CARGO_TARGET_DIR=/target
# What Cargo.lock names comes first: as long as it does not change, this layer is kept.
# benches and tests are named by Cargo.toml, but not built.
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
COPY proto proto
COPY source source
COPY image/build.sh image/build.sh
RUN --mount=type=secret,id=cargo-config,target=/usr/local/cargo/config.toml \
    --mount=type=secret,id=cargo-credentials,target=/usr/local/cargo/credentials.toml \
    image/build.sh dependencies
COPY src src
ARG REVISION=unknown
ARG SOURCE_DATE_EPOCH
# The program's own files are newer than what stood for them.
RUN --mount=type=secret,id=cargo-config,target=/usr/local/cargo/config.toml \
    --mount=type=secret,id=cargo-credentials,target=/usr/local/cargo/credentials.toml \
    find src -type f -exec touch {} + && image/build.sh \
    && install -D -m 0755 /target/usher /image/usher \
    && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt

FROM scratch
ARG VERSION=0.2.0
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="usher" \
      org.opencontainers.image.description="The last mile from NATS to your users' screens: a real-time gateway" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="scratch"
COPY --from=build /image/ /
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 8080 9090 9100
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usher"]
CMD ["serve"]
