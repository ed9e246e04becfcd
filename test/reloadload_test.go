package test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// hundred makes a hundred reloads, and one that fails after each of them, over a few seconds under two
// thousand queries a second.
func hundred(t *testing.T, s *server, name string, right, wrong func(i int) string, want ...string) {
	t.Helper()
	load := press(t, s, name, 2000, 20, want...)
	defer func() {
		load.stop()
		t.Logf("%d queries over UDP and %d over TCP, of which %d lost their connection", load.udp.Load(), load.tcp.Load(), load.broken.Load())
	}()
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for i := range 100 {
		if err := renew(t, s, right(i)); err != nil {
			t.Fatalf("Reload %d failed: %v", i, err)
		}
		<-pace.C
		if err := renew(t, s, wrong(i)); err == nil {
			t.Fatalf("Reload %d was to fail", i)
		}
		<-pace.C
	}
}

// No answer is lost, none is wrong, and nothing is left behind.
func TestReloadUnderLoad(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	const name = "www.example.org."
	// The times are long: how fast failover is under such load is not the question here.
	pool := func(i int) string {
		return fmt.Sprintf("failover %s %s {\n probe http://\n backup %s\n recheck 20ms\n ttl %ds\n}", name, hosts[0], hosts[1], 1+i%60)
	}
	other := fmt.Sprintf("failover new.example.org %s {\n probe http://\n}", hosts[2])
	s := start(t, block(pool(0)))
	hosts[0].answer(http.StatusServiceUnavailable)
	eventually(t, bound, "the primary is down", func() bool { return len(lines(hosts[0].addr+": up -> down")) == 1 })
	taken := takenPort(t)
	goroutines, files := footprint(t)

	hundred(t, s, name, func(i int) string {
		if i%2 == 0 {
			return block(pool(i), other)
		}
		return block(pool(i))
	}, func(i int) string {
		return []string{
			block("failover www.example.org"),
			block("loadbalance", pool(0)),
			block(pool(0), other) + onPort(taken), // this one begins to probe
		}[i%3]
	}, "127.0.0.3")

	wantAddresses(t, s.ask(name, dns.TypeA), "127.0.0.3")
	if said := lines(name + " " + hosts[0].addr); len(said) != 1 {
		t.Errorf("The log of the primary is %q, want the line from before the reloads", said)
	}
	still(t, "the member of the pool that is gone", hosts[2].probesOf)
	wantFootprint(t, goroutines, files)
}

// The same without failover: it is CoreDNS that ends TCP connections on a reload.
func TestReloadUnderLoadWithout(t *testing.T) {
	hosts := func(i int) string {
		return block(fmt.Sprintf("hosts {\n 127.0.0.3 www.example.org\n ttl %d\n reload 0\n}", 1+i%60))
	}
	s := start(t, hosts(0))
	hundred(t, s, "www.example.org.", hosts, func(int) string { return block("hosts {\n ttl x\n}") }, "127.0.0.3")
}
