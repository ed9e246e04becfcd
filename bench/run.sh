#!/bin/bash
# Measures failover beside other servers, all on the loopback device, and prints one table: see README.md.
# With ROUNDS=0 it starts each server, asks each server, and measures nothing.
# Otherwise it takes about five minutes. It ends what it started, and leaves nothing but the Debian packages it needed.
set -euo pipefail
cd "$(dirname "$0")"

ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-3} MEMBERS=${MEMBERS:-1000}
PATH="$PATH:/usr/sbin"
NEEDS='gdnsd:gdnsd pdns_server:pdns-server dnsperf:dnsperf dig:bind9-dnsutils'
# PowerDNS's backend is a module, in a package that Debian only recommends with the program.
[[ $(pdns_server --config-dir=/nonexistent --list-modules 2>/dev/null) == *$'\n'bind* ]] || NEEDS+=' libbindbackend.so:pdns-backend-bind'
make -s -C .. test-deps NEEDS="$NEEDS" >&2
# These are the flags of ../Makefile. With other flags, Go compiles all of CoreDNS again.
export CGO_ENABLED=0 GOFLAGS="$(go env GOFLAGS) -trimpath -tags=grpcnotrace"
DIR=$(mktemp -d)
PIDS=()
finish() {
    for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$DIR"
}
trap finish EXIT
echo "Building ..." >&2
go build -o "$DIR/coredns" ../cmd/coredns
go build -o "$DIR/floor" ./floor
go test -c -o "$DIR/members" .

# start runs a program until the end of this script: the members end with their input, the others are killed.
mkfifo "$DIR/open" && exec 9<>"$DIR/open"
start() {
    local name=$1
    shift
    "$@" <&9 >"$DIR/$name.log" 2>&1 &
    PIDS+=($!)
    PID[$name]=$!
}
declare -A PID PORT CPU QPS

start members env FAILOVER_BENCH_CHILD=members "$DIR/members"
start mortal env FAILOVER_BENCH_CHILD=mortal ADDRESS=127.99.0.1:0 "$DIR/members"
for _ in $(seq 100); do
    [ "$(wc -l <"$DIR/members.log")" -lt 2 ] || [ ! -s "$DIR/mortal.log" ] || break
    sleep 0.1
done
UP=$(head -1 "$DIR/members.log") DEAD=$(head -1 "$DIR/mortal.log")
start heir env FAILOVER_BENCH_CHILD=mortal ADDRESS="127.99.0.2:$DEAD" "$DIR/members"

# --- the servers ---
A="127.0.0.1:$UP 127.0.0.2:$UP 127.0.0.3:$UP"
ZONE='@ 60 IN SOA ns admin 1 7200 1800 86400 60
@ 60 IN NS ns'
printf '$ORIGIN bench.test.\n%s\nns 60 IN A 127.0.0.1\n' "$ZONE" >"$DIR/zone"
for i in 1 2 3; do echo "www 60 IN A 127.0.0.$i" >>"$DIR/zone"; done

coredns() { # NAME PORT BODY
    PORT[$1]=$2
    printf 'bench.test:%s {\nbind 127.0.0.1\n%s\n}\n' "$2" "$3" >"$DIR/$1.conf"
    start "$1" "$DIR/coredns" -quiet -conf "$DIR/$1.conf"
}
FAST=$'interval 100ms\nrecheck 10ms\ntimeout 100ms\nfall 1\nttl 1s'
coredns failover 5301 "failover www.bench.test $A
failover dies.bench.test 127.99.0.1:$DEAD {
backup 127.99.0.2:$DEAD
}
failover fast.bench.test 127.99.0.1:$DEAD {
backup 127.99.0.2:$DEAD
$FAST
}"
coredns hosts 5302 $'hosts {\n127.0.0.1 www.bench.test\n127.0.0.2 www.bench.test\n127.0.0.3 www.bench.test\n}'
coredns file 5303 "file $DIR/zone bench.test"
coredns template 5304 'template IN A bench.test {
answer "{{ .Name }} 60 IN A 127.0.0.1"
answer "{{ .Name }} 60 IN A 127.0.0.2"
answer "{{ .Name }} 60 IN A 127.0.0.3"
}'
PORT[floor]=5305
printf 'bench.test:5305 {\nbind 127.0.0.1\ncanned\n}\n' >"$DIR/floor.conf"
start floor "$DIR/floor" -quiet -conf "$DIR/floor.conf"

gdnsd() { # NAME PORT SERVICE_TYPES RESOURCES ZONE
    PORT[$1]=$2
    mkdir -p "$DIR/$1/zones" "$DIR/$1/run" "$DIR/$1/state"
    cat >"$DIR/$1/config" <<EOF
options => { listen => ["127.0.0.1:$2"], run_dir => "$DIR/$1/run", state_dir => "$DIR/$1/state" }
service_types => { $3 }
plugins => { multifo => { $4 }, simplefo => { ${6:-} } }
EOF
    { printf '%s\nns 60 IN A 127.0.0.1\n' "$ZONE"; printf '%b' "$5"; } >"$DIR/$1/zones/bench.test"
    start "$1" gdnsd_program -c "$DIR/$1" start
}
gdnsd_program() { exec "$(PATH=/usr/sbin:$PATH type -P gdnsd)" "$@"; }
gdnsd gdnsd 5306 "works => { plugin => tcp_connect, port => $UP }
    dies => { plugin => tcp_connect, port => $DEAD }
    fast => { plugin => tcp_connect, port => $DEAD, interval => 2, timeout => 1, up_thresh => 1, ok_thresh => 1, down_thresh => 1 }" \
    'www => { service_types => works, a => 127.0.0.1, b => 127.0.0.2, c => 127.0.0.3 }' \
    'www 60 DYNA multifo!www\ndies 60 DYNA simplefo!dies\nfast 60 DYNA simplefo!fast\n' \
    "dies => { service_types => dies, primary => 127.99.0.1, secondary => 127.99.0.2 }
     fast => { service_types => fast, primary => 127.99.0.1, secondary => 127.99.0.2 }"

pdns() { # NAME PORT INTERVAL ZONE
    PORT[$1]=$2
    mkdir -p "$DIR/$1"
    { printf '$ORIGIN bench.test.\n%s\nns 60 IN A 127.0.0.1\n' "$ZONE"; printf '%b' "$4"; } >"$DIR/$1/zone"
    echo "zone \"bench.test\" { type native; file \"$DIR/$1/zone\"; };" >"$DIR/$1/named.conf"
    start "$1" pdns_server --config-dir="$DIR/$1" --daemon=no --guardian=no --launch=bind --bind-config="$DIR/$1/named.conf" \
        --local-address=127.0.0.1 --local-port="$2" --socket-dir="$DIR/$1" --enable-lua-records=yes --security-poll-suffix= \
        --lua-health-checks-interval="$3" --loglevel=3
}
www="www 60 IN LUA A \"ifportup($UP, {'127.0.0.1', '127.0.0.2', '127.0.0.3'})\"\n"
dies="dies 60 IN LUA A \"ifportup($DEAD, {'127.99.0.1', '127.99.0.2'}, {selector='all'})\"\n"
pdns pdns 5307 5 "$www$dies"
pdns pdns_fast 5308 1 "$dies"

ask() { dig +short +tries=1 +time=1 @127.0.0.1 -p "$1" "$2.bench.test" A 2>/dev/null | grep -v '^;' || true; }
SERVERS="floor failover hosts file template gdnsd pdns"
sleep 2
for s in $SERVERS; do
    for _ in $(seq 100); do [ "$(ask "${PORT[$s]}" www | wc -l)" -ge 1 ] && continue 2; sleep 0.1; done
    echo "$s does not answer:" >&2
    tail -5 "$DIR/$s.log" >&2
    exit 1
done
if [ "$ROUNDS" = 0 ]; then
    echo "www.bench.test A" | dnsperf -s 127.0.0.1 -p "${PORT[failover]}" -n 1 >/dev/null
    echo "Each server answers: $SERVERS" >&2
    exit 0
fi

# --- queries ---
ticks() { # processor time of a process and its threads, in microseconds
    awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print int(($12 + $13) * 1000000 / hz) }' "/proc/$1/stat"
}
echo 'www.bench.test A' >"$DIR/queries"
echo "Asking, $ROUNDS rounds of $SECONDS_EACH s each ..." >&2
for _ in $(seq "$ROUNDS"); do
    for s in $SERVERS; do
        before=$(ticks "${PID[$s]}")
        dnsperf -s 127.0.0.1 -p "${PORT[$s]}" -d "$DIR/queries" -l "$SECONDS_EACH" -c 4 -q 64 >"$DIR/perf" 2>/dev/null
        read -r done_ qps < <(awk '/Queries completed/ { n = $3 } /Queries per second/ { q = int($4) } END { print n, q }' "$DIR/perf")
        used=$(awk "BEGIN { printf \"%.2f\", ($(ticks "${PID[$s]}") - $before) / $done_ }")
        CPU[$s]=$(printf '%s\n' "${CPU[$s]:-$used}" "$used" | sort -g | head -1)
        QPS[$s]=$(printf '%s\n' "${QPS[$s]:-0}" "$qps" | sort -g | tail -1)
    done
done

# --- the death of a member ---
echo "A member dies; at gdnsd's defaults that takes two minutes ..." >&2
declare -A GONE
WATCHED="failover:dies failover:fast gdnsd:dies gdnsd:fast pdns:dies pdns_fast:dies"
for w in $WATCHED; do ask "${PORT[${w%:*}]}" "${w#*:}" >/dev/null; done
sleep 6 # what PowerDNS checks at all is what was asked for
kill "${PID[mortal]}"
began=$(date +%s%N)
while [ "$(($(date +%s%N) - began))" -lt 130000000000 ]; do
    left=
    for w in $WATCHED; do
        [ -z "${GONE[$w]:-}" ] || continue
        left=1
        if [ "$(ask "${PORT[${w%:*}]}" "${w#*:}")" = 127.99.0.2 ]; then
            GONE[$w]=$(awk "BEGIN { printf \"%.1f\", ($(date +%s%N) - $began) / 1e9 }")
        fi
    done
    [ -n "$left" ] || break
    sleep 0.05
done

# --- probes and memory: as many members in pools of one, each probed every two seconds ---
echo "Probing $MEMBERS members ..." >&2
addr() { echo "127.1.$(($1 / 250)).$(($1 % 250 + 1))"; }
pools= resources= records= lua=
for i in $(seq "$MEMBERS"); do
    a=$(addr "$i")
    pools+="failover n$i.bench.test $a:$UP"$'\n'
    resources+="n$i => { service_types => works, m => $a }"$'\n'
    records+="n$i 60 DYNA multifo!n$i\n"
    lua+="n$i 60 IN LUA A \"ifportup($UP, {'$a'})\"\n"
    echo "n$i.bench.test A"
done >"$DIR/names"
coredns failover_many 5311 "failover {
interval 2s
}
$pools"
coredns failover_one 5312 "failover n1.bench.test $(addr 1):$UP"
SERVICE="works => { plugin => tcp_connect, port => $UP, interval => 2, timeout => 1 }"
gdnsd gdnsd_many 5313 "$SERVICE" "$resources" "$records"
gdnsd gdnsd_one 5314 "$SERVICE" "n1 => { service_types => works, m => $(addr 1) }" 'n1 60 DYNA multifo!n1\n'
pdns pdns_many 5315 2 "$lua"
pdns pdns_one 5316 2 "n1 60 IN LUA A \"ifportup($UP, {'$(addr 1)'})\"\n"
sleep 5
for s in failover_many failover_one gdnsd_many gdnsd_one pdns_many pdns_one; do
    dnsperf -s 127.0.0.1 -p "${PORT[$s]}" -d "$DIR/names" -n 1 -q 16 >/dev/null 2>&1
done
sleep 5
declare -A PROBE MEMORY BEFORE AFTER
rss() { awk '/VmRSS/ { print $2 * 1024 }' "/proc/$1/status"; }
for s in failover gdnsd pdns; do
    for n in many one; do BEFORE[${s}_$n]=$(ticks "${PID[${s}_$n]}"); done
done
sleep 20
for s in failover gdnsd pdns; do
    for n in many one; do AFTER[${s}_$n]=$(($(ticks "${PID[${s}_$n]}") - BEFORE[${s}_$n])); done
    PROBE[$s]=$(awk "BEGIN { printf \"%.1f\", (${AFTER[${s}_many]} - ${AFTER[${s}_one]}) / ($MEMBERS * 10) }")
    MEMORY[$s]=$(awk "BEGIN { printf \"%d\", ($(rss "${PID[${s}_many]}") - $(rss "${PID[${s}_one]}")) / $MEMBERS }")
done

# --- the table ---
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
echo "$(date +%F), $(nproc) processors ($cpu), load $(cut -d' ' -f1 /proc/loadavg), Linux $(uname -r), $(go env GOVERSION)"
echo "$("$DIR/coredns" -version | head -1); $(gdnsd_version=$(/usr/sbin/gdnsd version 2>&1 | head -1 || true); echo "${gdnsd_version:-gdnsd}"); $(pdns_server --version 2>&1 | grep -o 'PowerDNS [A-Za-z ]*[0-9.]*' | head -1)"
echo
echo "| server | µs of CPU per query | times failover | queries/s | µs of CPU per probe | bytes per member | s from death to right answer, defaults | fastest |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
for s in $SERVERS; do
    ratio=$(awk "BEGIN { printf \"%.2f\", ${CPU[$s]} / ${CPU[failover]} }")
    case $s in
    failover | gdnsd) slow=${GONE[$s:dies]:->130} quick=${GONE[$s:fast]:->130} ;;
    pdns) slow=${GONE[pdns:dies]:->130} quick=${GONE[pdns_fast:dies]:->130} ;;
    *) slow= quick= ;;
    esac
    echo "| $s | ${CPU[$s]} | $ratio | ${QPS[$s]} | ${PROBE[$s]:-} | ${MEMORY[$s]:-} | $slow | $quick |"
done
