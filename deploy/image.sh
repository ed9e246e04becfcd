#!/usr/bin/env bash
# Builds the Dockerfile with Debian's buildah, no Docker engine and no registry: the first stage runs on this machine's
# own Go, make and setcap instead of the golang image's, with its caches. Root is needed, for chroot and for the
# capability of the file. The images, one for each processor, are the tags of an OCI layout in ./image.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ "$(id -u)" = 0 ] || { echo 'make image needs root' >&2; exit 1; }

# In mounts and processes of its own, which are gone before its folder is removed, however it ends: what is mounted
# under that folder is this machine's.
if [ -z "${IMAGE_STORE-}" ]; then
    store=$(mktemp -d)
    trap 'rm -rf "$store"' EXIT
    IMAGE_STORE=$store unshare --mount --pid --fork --kill-child --mount-proc deploy/image.sh
    exit
fi

here=$IMAGE_STORE
archs=${ARCHS:-amd64 arm64}
commit=${GITCOMMIT-$(git describe --always --dirty 2>/dev/null || true)}
export STORAGE_DRIVER=vfs
buildah() { command buildah --root "$here/store" --runroot "$here/run" "$@"; }

# What stands for the golang image has nothing but the way to what is mounted into it.
mkdir -p "$here/toolchain"/{etc,root,tmp,usr,src}
for dir in bin sbin lib lib64; do
    [ ! -e /$dir ] || ln -s usr/$dir "$here/toolchain/$dir"
done
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$here/toolchain/etc/passwd"
cat >"$here/Toolchain" <<EOF
FROM scratch
COPY . /
ENV PATH=$(go env GOROOT)/bin:/usr/sbin:/usr/bin HOME=/root \
    GOROOT=$(go env GOROOT) GOMODCACHE=$(go env GOMODCACHE) GOCACHE=$(go env GOCACHE) \
    GOPROXY=$(go env GOPROXY) GOSUMDB=$(go env GOSUMDB) GOTOOLCHAIN=local
EOF
buildah bud --quiet -t localhost/toolchain -f "$here/Toolchain" "$here/toolchain" >/dev/null

# Out here the way to the modules is known; in there nothing is asked of the network.
go mod download
mkdir -p "$(go env GOCACHE)"
rm -rf image
for arch in $archs; do
    buildah bud --quiet --isolation chroot --platform "linux/$arch" --pull-never \
        --build-arg GO=localhost/toolchain --build-arg BUILDPLATFORM="linux/$(go env GOHOSTARCH)" --build-arg GITCOMMIT="$commit" \
        -v /usr:/usr:ro -v /etc/ssl:/etc/ssl:ro -v "$(go env GOROOT):$(go env GOROOT):ro" \
        -v "$(go env GOMODCACHE):$(go env GOMODCACHE)" -v "$(go env GOCACHE):$(go env GOCACHE)" \
        -t "localhost/coredns-failover:$arch" .
    buildah push --quiet "localhost/coredns-failover:$arch" "oci:image:$arch"
done
du -sh image
