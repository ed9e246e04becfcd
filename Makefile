# Makefile for failover, and for a CoreDNS that has it.

SHELL       := bash
.SHELLFLAGS := -e -u -o pipefail -c

GITCOMMIT ?= $(shell git describe --always --dirty 2>/dev/null)
LDFLAGS    = -s -w -X github.com/coredns/coredns/coremain.GitCommit=$(GITCOMMIT)

# What `make test` calls besides Go, as program:package, with Debian's names for the packages.
NEEDS       ?= cc:build-essential dig:bind9-dnsutils delv:bind9-dnsutils nsupdate:bind9-dnsutils named:bind9 nsd:nsd unbound:unbound \
               kdig:knot-dnsutils knotd:knot etcd:etcd-server chromium:chromium promtool:prometheus
TESTTIMEOUT ?= 20m
SECONDS     ?= 120
GONE        ?= 45s
FUZZTIME    ?= 1m
BENCH       ?= .

# The month the manual pages show. It moves with a release, never with the clock:
# the same README.md must make the same page.
MAN_DATE := 2026-11-01

# CoreDNS takes minutes to compile, and other flags compile all of it again. Whatever is not a
# test shares these: what CoreDNS is released with, and no machine's paths in the binary.
PLAIN := CGO_ENABLED=0 GOFLAGS='$(strip $(shell go env GOFLAGS) -trimpath -tags=grpcnotrace)'

# The versions of the tools, and their checksums, stand in a module of their own.
TOOL := $(PLAIN) go tool -modfile=tools/go.mod

.PHONY: all
all: build

.PHONY: build
build:
	$(PLAIN) go build -ldflags='$(LDFLAGS)' -o coredns ./cmd/coredns
	$(PLAIN) go build -ldflags='$(LDFLAGS)' -o failoverctl ./cmd/failoverctl

# Everything is compiled before the first test starts, so that no test's clock runs while the
# compiler has the processors.
.PHONY: test
test: test-deps build
	$(PLAIN) go vet ./...
	go build -race . github.com/coredns/coredns/core/plugin
	go test -race -timeout $(TESTTIMEOUT) ./...
	$(PLAIN) go test ./bench
	cd test/browser && $(PLAIN) go vet ./...
	cd test/browser && $(PLAIN) go test -count=1 -timeout 10m .

# Servers come with the wish to be started, which policy-rc.d denies while they are installed: the tests
# start their own.
.PHONY: test-deps
test-deps:
	@programs= packages=; \
	for need in $(NEEDS); do \
	    PATH="$$PATH:/usr/sbin:/sbin" command -v "$${need%%:*}" >/dev/null && continue; \
	    programs+=" $${need%%:*}" packages+=" $${need#*:}"; \
	done; \
	[ -n "$$programs" ] || exit 0; \
	root=; [ "$$(id -u)" = 0 ] || root=sudo; \
	for tool in apt-get $$root; do \
	    command -v $$tool >/dev/null && continue; \
	    echo "The tests need these programs, please install them:$$programs (on Debian:$$packages)" >&2; \
	    exit 1; \
	done; \
	if [ ! -e /usr/sbin/policy-rc.d ]; then \
	    trap "$$root rm -f /usr/sbin/policy-rc.d" EXIT; \
	    printf '#!/bin/sh\nexit 101\n' | $$root tee /usr/sbin/policy-rc.d >/dev/null; \
	    $$root chmod 755 /usr/sbin/policy-rc.d; \
	fi; \
	set -x; $$root apt-get -qq update; \
	$$root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$packages

# What these call besides Go.
image test-kubernetes soak: NEEDS = buildah:buildah setcap:libcap2-bin umoci:umoci runc:runc unshare:util-linux setpriv:util-linux \
    qemu-aarch64-static:qemu-user-static qemu-x86_64-static:qemu-user-static etcd:etcd-server ip:iproute2 tc:iproute2 nft:nftables

# An image for each processor, in ./image, without a Docker engine.
.PHONY: image
image: test-deps
	GITCOMMIT='$(GITCOMMIT)' deploy/image.sh

# The image as a pod runs it, the manifests at a real API server, and the program beside that. The server is compiled
# the first time, which takes some minutes; its version is that of the module.
KUBERNETES = -X k8s.io/component-base/version.git

.PHONY: test-kubernetes
test-kubernetes: build image
	cd test/kubernetes && $(PLAIN) go vet ./...
	cd test/kubernetes && version=$$(go list -m -f '{{.Version}}' k8s.io/kubernetes) && IFS=.v read -r _ major minor _ <<<"$$version" && \
	    $(PLAIN) go build -o kube-apiserver -ldflags="-s -w $(KUBERNETES)Version=$$version $(KUBERNETES)Major=$$major \
	    $(KUBERNETES)Minor=$$minor" k8s.io/kubernetes/cmd/kube-apiserver
	cd test/kubernetes && $(PLAIN) go test -count=1 -timeout 10m .

# Two replicas as in a cluster, and everything that they depend on breaking, for so many SECONDS.
.PHONY: soak
soak: test-deps build
	cd test/kubernetes && $(PLAIN) go run ./soak -seconds '$(SECONDS)' -coredns '$(CURDIR)/coredns'

# Several sites, and an etcd between them to which all happens that can. Most of it is waiting, so it runs at once.
.PHONY: test-agreement
test-agreement:
	cd test/agreement && $(PLAIN) go vet ./...
	cd test/agreement && $(PLAIN) go test -count=1 -timeout 5m -parallel 16 .

# Three sites as whole processes, each with a CoreDNS and a member of etcd, and everything between them breaking.
faults: NEEDS = ip:iproute2 nft:nftables

.PHONY: faults
faults: test-deps build
	$(PLAIN) test/agreement/faults/skewed.sh test/agreement/coredns-skewed
	cd test/agreement && $(PLAIN) go run ./faults -coredns '$(CURDIR)/coredns' -skewed ./coredns-skewed -gone '$(GONE)'

.PHONY: lint
lint:
	$(TOOL) golangci-lint run ./...
	cd test/kubernetes && $(PLAIN) go tool -modfile=../../tools/go.mod golangci-lint run ./...
	cd test/browser && $(PLAIN) go tool -modfile=../../tools/go.mod golangci-lint run ./...
	cd test/agreement && $(PLAIN) go tool -modfile=../../tools/go.mod golangci-lint run ./...
	cd test/sandbox && $(PLAIN) go tool -modfile=../../tools/go.mod golangci-lint run ./...

# Each native fuzz target of each package, one after the other.
.PHONY: fuzz
fuzz:
	@grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do \
	    targets=$$(go test -list '^Fuzz' "$$dir" | sed -n '/^Fuzz/p'); \
	    for target in $$targets; do \
	        echo "== $$dir $$target"; \
	        go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$dir" </dev/null; \
	    done; \
	done

.PHONY: bench
bench:
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

# The demo, with the flags the rest was compiled with; `go run ./cmd/demo` does the same.
.PHONY: demo
demo:
	@$(PLAIN) go run ./cmd/demo

# A manual page is a README.md from its first section on, under the header CoreDNS gives its own. mmark
# does not know that a backslash means something to man; \e is one that is meant to be seen. Each page, and the
# README.md that makes it:
MANPAGES := coredns-failover.7:README.md failoverctl.1:cmd/failoverctl/README.md

define MANPAGE
manpage() { \
    local title="$${1%.*} $${1##*.}"; \
    { printf '%%%%%%\n title = "%s"\n area = "CoreDNS"\n workgroup = "CoreDNS Plugins"\n' "$$title"; \
      printf ' date = %sT00:00:00Z\n%%%%%%\n\n' '$(MAN_DATE)'; \
      sed -n '/^## Name/,$$p' "$$2" | sed 's/\\/\\e/g'; } | $(TOOL) mmark -man; \
}
endef

.PHONY: man
man:
	@$(MANPAGE); mkdir -p man; \
	for page in $(MANPAGES); do manpage "$${page%%:*}" "$${page#*:}" > "man/$${page%%:*}"; done

.PHONY: man-check
man-check:
	@$(MANPAGE); \
	for page in $(MANPAGES); do \
	    manpage "$${page%%:*}" "$${page#*:}" | diff -u "man/$${page%%:*}" - || \
	        { echo "man/$${page%%:*} is not what $${page#*:} makes: run 'make man'" >&2; exit 1; }; \
	done

.PHONY: clean
clean:
	rm -rf coredns failoverctl image test/agreement/coredns-skewed test/kubernetes/kube-apiserver
