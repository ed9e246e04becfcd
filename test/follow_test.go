package test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// script is what many have a cron job run every minute instead: which of two members accept connections, into the zone.
const script = `
up=
for member in %[1]s; do
    timeout 2 bash -c "</dev/tcp/${member/:/\/}" 2>/dev/null && up="$up ${member%%:*}"
done
{
    echo server %[2]s
    echo local 127.0.0.1
    echo zone example.org
    echo update delete cron.example.org A
    for addr in ${up:-%[3]s}; do echo update add cron.example.org 60 A $addr; done
    echo send
} | nsupdate -v -y hmac-sha256:%[4]s:%[5]s
`

// follower is somebody who answers, and how long it took after each death until that was right.
type follower struct {
	what, addr, name string
	took             []time.Duration
}

// BenchmarkFollow measures the time from a member's death to the first right answer: of failover, of its secondaries,
// of a BIND that it updates and of that one's secondary, and of the same BIND for a name that a script checks once a
// minute. A round takes up to two minutes, as the script does.
//
//	go test -run '^$' -bench Follow -benchtime 10x -timeout 1h ./test
func BenchmarkFollow(b *testing.B) {
	needs(b, "nsupdate")
	for _, speed := range []struct{ what, properties string }{
		{"defaults", ""},
		{"fast", "interval 500ms\n recheck 100ms\n timeout 500ms\n fall 2\n ttl 1s"},
	} {
		b.Run(speed.what, func(b *testing.B) {
			hosts := members(b, usual...)
			secondaries := newSecondaries(b)
			second := place{b.TempDir(), "127.0.0.56", lowPort(b, "127.0.0.56")}
			updated := startPeer(b, "named", home, "example.org.", func(at place) string {
				return bindPrimary(b, at, fmt.Sprintf("notify explicit; also-notify { %s port %s; }; allow-transfer { any; };", second.host, second.port))
			})
			conf := second.file(b, "knot.conf", secondaryConfig(b, "knotd", second, updated.addr, ""))
			beside(b, "knotd", append(inFront["knotd"], conf)...)
			start(b, secondaries.primaryBlock("failover {\n "+speed.properties+"\n update "+updated.addr+" example.org "+updateKey+"\n}",
				fmt.Sprintf("failover www.example.org %s %s", hosts[0], hosts[1]), file(b), secondaries.to(),
				"tsig {\n secret "+transferKey+" "+transferSecret+"\n secret "+updateKey+". "+updateSecret+"\n require AXFR IXFR\n}"))
			secondaries.start(b, transferSecret)

			followers := []*follower{{what: "failover", addr: secondaries.primary, name: "www.example.org."}}
			for _, program := range secondaries.programs() {
				followers = append(followers, &follower{what: program + ", a secondary", addr: secondaries.peers[program].addr, name: "www.example.org."})
			}
			followers = append(followers,
				&follower{what: "named, updated", addr: updated.addr, name: "www.example.org."},
				&follower{what: "knotd, a secondary of that", addr: net.JoinHostPort(second.host, second.port), name: "www.example.org."})
			if speed.what == "defaults" {
				followers = append(followers, &follower{what: "named, by a script once a minute", addr: updated.addr, name: "cron.example.org."})
				cron(b, updated.addr, hosts)
			}
			all := func(want ...string) {
				b.Helper()
				want = slices.Sorted(slices.Values(want))
				began := time.Now()
				var wg sync.WaitGroup
				for _, f := range followers {
					wg.Go(func() {
						if !within(3*time.Minute, func() bool { return slices.Equal(f.answer(), want) }) {
							b.Errorf("%s does not answer %v", f.what, want)
						}
						f.took = append(f.took, time.Since(began))
					})
				}
				wg.Wait()
			}
			all(usual...)
			for _, f := range followers {
				f.took = nil
			}
			for range b.N {
				time.Sleep(rand.N(5 * time.Second)) // anywhere between two probes
				hosts[0].stop()
				all(usual[1])
				hosts[0].start()
				kept := make([][]time.Duration, len(followers))
				for i, f := range followers {
					kept[i] = f.took
				}
				all(usual...)
				for i, f := range followers {
					f.took = kept[i]
				}
			}
			said := ""
			for _, f := range followers {
				slices.Sort(f.took)
				said += fmt.Sprintf("\n%-34s %6.2f s in the middle, %6.2f s at most", f.what, f.took[len(f.took)/2].Seconds(), f.took[len(f.took)-1].Seconds())
			}
			fmt.Print(said + "\n") // a benchmark's log is cut after a few lines
		})
	}
}

// answer is what a follower has, sorted.
func (f *follower) answer() []string {
	c := &dns.Client{Timeout: time.Second}
	r, _, err := c.Exchange(question(f.name, dns.TypeA), f.addr)
	if err != nil {
		return nil
	}
	found := addresses(r)
	slices.Sort(found)
	return found
}

// cron runs the script once a minute until the benchmark ends.
func cron(b *testing.B, server string, hosts []*host) {
	b.Helper()
	host, port, _ := net.SplitHostPort(server)
	text := fmt.Sprintf(script, hosts[0].addr+" "+hosts[1].addr, host+" "+port, strings.Join(usual, " "), updateKey, updateSecret)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	b.Cleanup(func() {
		close(stop)
		wg.Wait()
	})
	wg.Go(func() {
		for {
			if out, err := exec.Command("bash", "-c", text).CombinedOutput(); err != nil {
				b.Errorf("The script: %v\n%s", err, out)
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Minute):
			}
		}
	})
}
