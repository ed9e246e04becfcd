#!/usr/bin/env bash
# Makes the program $1: the CoreDNS of ./cmd/coredns, with a wall clock that is $FAULTS_SKEW seconds ahead. Its
# monotonic clock is everybody's. It is called where the module is.
#
# Nothing moves the wall clock of one process only: a time namespace has none, and Go asks no library for it. So package time
# is another. With `go build -overlay` all that depends on it would be compiled again, which takes minutes; here the
# linker gets the one package instead of the other. It refuses that ("fingerprint mismatch") should more differ than
# what happens in functions.
set -euo pipefail

source=$(go env GOROOT)/src/time/time.go
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp "$source" "$dir/time.go"

# behind adds $2 to the only line that is $1, and makes no new line: other packages know their numbers.
behind() {
    local n
    n=$(grep -cxF -- "$1" "$dir/time.go") || true
    [ "$n" = 1 ] || { echo "$source has $n lines '$1', want 1" >&2; exit 1; }
    sed -i "s/^$1\$/&$2/" "$dir/time.go"
}
behind $'\t"errors"' '; "syscall"'
behind $'\tsec, nsec, mono := runtimeNow()' '; if s, ok := syscall.Getenv("FAULTS_SKEW"); ok { n, _ := atoi(s); sec += int64(n) }'

printf '{"Replace": {"%s": "%s"}}' "$source" "$dir/time.go" >"$dir/overlay.json"
time=$(go list -export -overlay "$dir/overlay.json" -f '{{.Export}}' time)
go list -export -deps -f '{{with .Export}}packagefile {{$.ImportPath}}={{.}}{{end}}' ./cmd/coredns |
    sed "s|^packagefile time=.*|packagefile time=$time|" >"$dir/importcfg"
go tool link -s -w -importcfg "$dir/importcfg" -o "$1" "$(go list -export -f '{{.Export}}' ./cmd/coredns)"
