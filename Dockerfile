# An image with one program in it, CoreDNS with failover, and the CA roots that https probes need:
#
#   docker buildx build --platform linux/amd64,linux/arm64 \
#     --build-arg GITCOMMIT=$(git describe --always --dirty) -t registry.example.org/coredns-failover:TAG --push .
#
# `make image` builds it without a Docker engine.
ARG GO=docker.io/library/golang:1.26-bookworm

# Go compiles for another processor by itself, so this stage is never emulated.
FROM --platform=$BUILDPLATFORM $GO AS build
RUN command -v setcap >/dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends libcap2-bin; }
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH GITCOMMIT
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH make build GITCOMMIT=$GITCOMMIT
# The capability is permitted and not effective (=p, where most say +ep), and the program takes it up itself: a file
# that has it as effective is refused by the kernel ("operation not permitted") where the pod may not have it, though it
# may never need it.
RUN mkdir -p /image/etc/ssl/certs && \
    cp coredns /image/coredns && \
    cp -L /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ && \
    setcap cap_net_bind_service=p /image/coredns

FROM scratch
ARG GITCOMMIT
LABEL org.opencontainers.image.title="coredns-failover" \
      org.opencontainers.image.description="CoreDNS with failover: names that answer with the addresses that work" \
      org.opencontainers.image.source="https://github.com/coredns-failover/failover" \
      org.opencontainers.image.documentation="https://github.com/coredns-failover/failover/blob/main/docs/kubernetes.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$GITCOMMIT"
COPY --from=build /image/ /
# A number, because the kubelet cannot tell from a name that it is not root (runAsNonRoot).
USER 65532:65532
WORKDIR /
EXPOSE 53 53/udp
ENTRYPOINT ["/coredns"]
