package test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// The first thing anybody does with this plugin: two addresses, one of which dies and comes back.
func TestFailover(t *testing.T) {
	one, two := member(t, "127.0.0.2"), member(t, "127.0.0.3")
	s := start(t, fmt.Sprintf(`example.org:0 {
		bind 127.0.0.1
		failover www.example.org east=%s %s {
			interval 400ms
			recheck  50ms
			timeout  200ms
		}
	}`, one, two))
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2", "127.0.0.3")
	answers := func(want ...string) func() bool {
		return func() bool { return slices.Equal(addresses(s.ask("www.example.org.", dns.TypeA)), want) }
	}
	down := record(t)
	one.stop()
	eventually(t, bound, "the answer is the other member", answers("127.0.0.3"))
	eventually(t, bound, "the change is in the log", func() bool { return len(down("www.example.org. east "+one.addr+": up -> down")) == 1 })
	line := down("www.example.org. east " + one.addr + ": up -> down")[0]
	if want := "[INFO] plugin/failover: www.example.org. east " + one.addr + ": up -> down (3 failures: connection refused); now answering 127.0.0.3"; line != want {
		t.Errorf("The log says %q, want %q", line, want)
	}

	back := record(t)
	one.start()
	eventually(t, bound, "the answer is both again", answers("127.0.0.2", "127.0.0.3"))
	eventually(t, bound, "the return is in the log", func() bool {
		return len(back("east "+one.addr+": down -> up (2 passes); now answering 127.0.0.2 127.0.0.3")) == 1
	})
}

// What a member says is in the log: an error of its own, or nothing in time.
func TestFailoverHTTP(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	s := start(t, block(fmt.Sprintf("failover www.example.org {\n primary %s\n backup %s\n probe http:///healthz\n interval 500ms\n recheck 20ms\n}", hosts[0], hosts[1])))
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2")
	for i, status := range []int{http.StatusServiceUnavailable, silent} {
		hosts[i].answer(status)
		eventually(t, bound, "a member is down", func() bool { return len(lines(hosts[i].addr+": up -> down (3 failures: ")) == 1 })
		line := lines(hosts[i].addr + ": up -> down")[0]
		if why := []string{"(3 failures: status 503, want 200-399); now answering 127.0.0.3", ": timeout while reading); now answering 127.0.0.2 127.0.0.3 (fallback all)"}[i]; !strings.HasSuffix(line, why) {
			t.Errorf("The log says %q, want %q at its end", line, why)
		}
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), [][]string{{"127.0.0.3"}, {"127.0.0.2", "127.0.0.3"}}[i]...)
	}
	asked := hosts[0].asked.Load()
	hosts[0].answer(http.StatusNoContent)
	eventually(t, bound, "the primary is back", func() bool { return len(lines(hosts[0].addr+": down -> up (2 passes); now answering 127.0.0.2")) == 1 })
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2")
	if hosts[0].asked.Load() < asked+2 {
		t.Errorf("The primary came back with %d requests, want at least two", hosts[0].asked.Load()-asked)
	}
}
