# One image for every service: `steppe serve SERVICE`, `steppe container agent`.
#
#   docker build -t steppe .     compiles in a container, which must reach the crate registry
#   ./scripts/image              puts a binary built on the host into the same final stage
#
# BASE is debian:bookworm-slim, of a registry or of scripts/base-image.
ARG BASE=debian:bookworm-slim
ARG BUILDER=rust:1.95-bookworm

FROM ${BUILDER} AS build
LABEL io.steppe.stage=build
WORKDIR /src
COPY . .
# With scripts/image there is nothing here but the binary, and BUILDER is BASE: nothing is left to do.
RUN [ -x prebuilt/steppe ] || { cargo build --release --locked -p steppe && install -D target/release/steppe prebuilt/steppe; }

FROM ${BASE}
# Mount points belong to the user that services run as, and so do volumes that are empty when they are mounted.
RUN for place in data run/steppe trust/authority trust/broker trust/applier trust/controller trust/scheduler trust/gateway \
        trust/agent; do install -d -o 10001 -g 10001 -m 0700 "/$place"; done && chmod 0755 /run/steppe
COPY --from=build /src/prebuilt/steppe /usr/local/bin/steppe
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["/usr/local/bin/steppe"]
CMD ["version"]
