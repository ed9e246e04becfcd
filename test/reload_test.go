package test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"

	"github.com/miekg/dns"
)

// pool is a directive with times that let a test go on, and probes that a member can count.
func pool(name string, members []*host, properties ...string) string {
	words := make([]string, 0, len(members))
	for _, m := range members {
		words = append(words, m.addr)
	}
	return fmt.Sprintf("failover %s %s {\n        probe http://\n        interval 200ms\n        recheck 20ms\n        %s\n    }",
		name, strings.Join(words, " "), strings.Join(properties, "\n        "))
}

// probesOf is the number of requests that a member had.
func (h *host) probesOf() int64 { return h.asked.Load() }

// A reload is nothing that the members or the clients could notice.
func TestReload(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	const name = "www.example.org."
	s := start(t, block(pool(name, hosts)))
	hosts[0].answer(http.StatusServiceUnavailable)
	eventually(t, bound, "a member is down", func() bool { return len(lines(hosts[0].addr+": up -> down")) == 1 })

	load := press(t, s, name, 100, 10, "127.0.0.3", "127.0.0.4")
	said := len(reports(lines))
	ups, _ := metric(t, "coredns_failover_transitions_total", "pool="+name, "to=up")
	downs, _ := metric(t, "coredns_failover_transitions_total", "pool="+name, "to=down")
	asked, begin := []int64{}, time.Now()
	for _, h := range hosts {
		asked = append(asked, h.asked.Load())
	}
	reloads := 0
	for ; time.Since(begin) < 4*time.Second; reloads++ {
		if err := renew(t, s, block(pool(name, hosts, fmt.Sprintf("ttl %ds", 1+reloads%60)))); err != nil {
			t.Fatalf("Reload %d failed: %v", reloads, err)
		}
		if n, ok := metric(t, "coredns_failover_members", "pool="+name, "status=unknown"); !ok || n > 0 {
			t.Errorf("After reload %d there are %v members that nothing is known of, %t", reloads, n, ok)
		}
		time.Sleep(50 * time.Millisecond) // some of the time is between the reloads
	}
	passed := time.Since(begin)
	if n := len(lines("plugin/failover: Reloaded 1 pool: 2 members up, 1 down")); n != reloads {
		t.Errorf("%d reloads have %d summaries in the log, want one each", reloads, n)
	}
	for i, h := range hosts {
		// The grid makes up to 4 % more of it, and what began before counts too.
		n, most := h.asked.Load()-asked[i], int64(float64(passed/(200*time.Millisecond))*1.05)+2
		if n > most || n < most/2 {
			t.Errorf("Member %d was asked %d times in %s with %d reloads, want %d", i, n, passed, reloads, most)
		}
	}
	if now := reports(lines); len(now) > said {
		t.Errorf("Reloads have been logged as %q", now[said:])
	}
	if n, _ := metric(t, "coredns_failover_transitions_total", "pool="+name, "to=up"); n != ups {
		t.Errorf("%v transitions to up have been counted", n-ups)
	}
	if n, _ := metric(t, "coredns_failover_transitions_total", "pool="+name, "to=down"); n != downs {
		t.Errorf("%v transitions to down have been counted", n-downs)
	}
	load.stop()

	// And everything works on: the next transition is one line.
	hosts[0].answer(http.StatusOK)
	eventually(t, bound, "the member is up again", func() bool { return len(lines(hosts[0].addr+": down -> up")) > 0 })
	wantAddresses(t, s.ask(name, dns.TypeA), "127.0.0.2", "127.0.0.3", "127.0.0.4")
	if now := reports(lines); len(now) != said+1 {
		t.Errorf("The change has been logged as %q", now[said:])
	}
}

// A check with other settings begins with the status that the one before has found.
func TestReloadSettings(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	const name = "www.example.org."
	s := start(t, block(pool(name, hosts)))
	hosts[0].answer(http.StatusServiceUnavailable)
	eventually(t, bound, "a member is down", func() bool { return len(lines(hosts[0].addr+": up -> down")) == 1 })
	said := len(reports(lines))

	load := press(t, s, name, 100, 0, "127.0.0.3")
	for _, property := range []string{"fall 5", "rise 3", "timeout 150ms", "fall 5 10", "startup 0s", ""} {
		begin := time.Now()
		if err := renew(t, s, block(pool(name, hosts, property))); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("The reload with %q took %s: what was it waiting for?", property, took)
		}
		wantAddresses(t, s.ask(name, dns.TypeA), "127.0.0.3")
		if n, ok := metric(t, "coredns_failover_members", "pool="+name, "status=unknown"); !ok || n > 0 {
			t.Errorf("After the reload with %q there are %v members that nothing is known of, %t", property, n, ok)
		}
	}
	load.stop()
	if now := reports(lines); len(now) > said {
		t.Errorf("Reloads have been logged as %q", now[said:])
	}
	hosts[0].answer(http.StatusOK)
	eventually(t, bound, "the member is up again", func() bool { return len(lines(hosts[0].addr+": down -> up")) == 1 })
}

// What only the Corefile before has named is let alone, and forgotten.
func TestReloadForgets(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	s := start(t, block(pool("www.example.org", hosts[:2]), pool("old.example.org", hosts[2:])))
	for _, tc := range []struct {
		corefile string
		gone     *host
	}{
		{block(pool("www.example.org", hosts[:2])), hosts[2]}, // a pool
		{block(pool("www.example.org", hosts[:1])), hosts[1]}, // a member
		{block("whoami"), hosts[0]},                           // the plugin
	} {
		asked := tc.gone.asked.Load()
		eventually(t, bound, "the member is asked", func() bool { return tc.gone.asked.Load() > asked })
		if err := renew(t, s, tc.corefile); err != nil {
			t.Fatal(err)
		}
		still(t, "the member that is gone", tc.gone.probesOf)
	}
	// And it comes back.
	if err := renew(t, s, block(pool("www.example.org", hosts[:1]))); err != nil {
		t.Fatal(err)
	}
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2")
}

// A reload brings members that nobody has asked before. Those that are down have a line each, as at a start, and the summary
// counts all.
func TestReloadNewMembers(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
	hosts[2].answer(http.StatusServiceUnavailable)
	s := start(t, block(pool("www.example.org", hosts[:1])))
	if err := renew(t, s, block(pool("www.example.org", hosts[:3]), pool("new.example.org", hosts[3:]))); err != nil {
		t.Fatal(err)
	}
	// The reload has waited for them, so the first answer is right already.
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2", "127.0.0.3")
	for line, want := range map[string]int{
		"plugin/failover: Started 1 pool: 1 member up, 0 down":                                  1,
		"www.example.org. " + hosts[2].addr + ": unknown -> down (3 failures: status 503, want": 1,
		"plugin/failover: Reloaded 2 pools: 3 members up, 1 down":                               1,
		"plugin/failover: ": 3,
	} {
		if !within(time.Second, func() bool { return len(lines(line)) == want }) {
			t.Errorf("The log has %d lines with %q, want %d", len(lines(line)), line, want)
		}
	}
	for labels, want := range map[string]float64{"pool=www.example.org. to=up": 2, "pool=www.example.org. to=down": 1, "pool=new.example.org. to=up": 1} {
		wantMetric(t, want, "coredns_failover_transitions_total", strings.Fields(labels)...)
	}
}

// The set that worked last is remembered over a reload, though no member of it works any more.
func TestReloadFallbackLast(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	const name = "www.example.org."
	s := start(t, block(pool(name, hosts, "fallback last")))
	for _, h := range []*host{hosts[0], hosts[2], hosts[1]} {
		h.answer(http.StatusServiceUnavailable)
		eventually(t, bound, "a member is down", func() bool { return len(lines(h.addr+": up -> down")) == 1 })
	}
	stale := func() {
		t.Helper()
		m := exchange(t, s.udp(), "udp", question(name, dns.TypeA).SetEdns0(1232, false))
		wantAddresses(t, m, "127.0.0.3")
		if e := ede(m); e == nil || e.InfoCode != dns.ExtendedErrorCodeStaleAnswer {
			t.Errorf("The answer comes with %v, want the error for a stale one", e)
		}
	}
	stale()
	for _, order := range [][]*host{{hosts[0], hosts[1], hosts[2]}, {hosts[2], hosts[1]}, {hosts[1], hosts[0]}} {
		if err := renew(t, s, block(pool(name, order, "fallback last", "fall 2"))); err != nil {
			t.Fatal(err)
		}
		stale()
	}
	// Without any member of that set there is nothing to remember.
	if err := renew(t, s, block(pool(name, []*host{hosts[2], hosts[0]}, "fallback last"))); err != nil {
		t.Fatal(err)
	}
	wantAddresses(t, s.ask(name, dns.TypeA), "127.0.0.4", "127.0.0.2")
}

// The serial of a zone never goes back: not over a reload, and not over one that fails. It stays where
// nothing has changed.
func TestReloadSerial(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	const name = "www.example.org."
	s := start(t, block(pool(name, hosts[:1])))
	serial := func() uint32 {
		t.Helper()
		m := s.ask(name, dns.TypeTXT)
		if len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA {
			t.Fatalf("The answer has no SOA: %v", m)
		}
		return m.Ns[0].(*dns.SOA).Serial
	}
	first := serial()
	wait := func(serial uint32) {
		t.Helper()
		eventually(t, bound, "a second has passed", func() bool { return uint32(time.Now().Unix()) > serial })
	}
	wait(first)
	for _, property := range []string{"ttl 5s", "fall 2", "order cyclic", "order cyclic"} {
		if err := renew(t, s, block(pool(name, hosts[:1], property))); err != nil {
			t.Fatal(err)
		}
		if n := serial(); n != first {
			t.Errorf("After a reload with %q the serial is %d, want it as it was: %d", property, n, first)
		}
	}
	if err := renew(t, s, block(pool(name, hosts))); err != nil {
		t.Fatal(err)
	}
	second := serial()
	if second <= first {
		t.Errorf("With another member the serial is %d, want more than %d", second, first)
	}
	wait(second)
	if err := renew(t, s, block(pool(name, hosts[1:]))); err != nil {
		t.Fatal(err)
	}
	third := serial()
	if third <= second {
		t.Errorf("With a member less the serial is %d, want more than %d", third, second)
	}
	if err := renew(t, s, block(pool(name, hosts))+onPort(takenPort(t))); err == nil {
		t.Fatal("The port was to be in use")
	}
	if n := serial(); n < third {
		t.Errorf("After a reload that failed the serial is %d, want %d or more", n, third)
	}
}

// A member dies while the next Corefile is about to take over: that is one line and one count, whichever
// of the two has noticed.
func TestReloadMeanwhile(t *testing.T) {
	const name = "www.example.org."
	for way, properties := range map[string][2]string{
		"Same settings":        {"startup 1s", "startup 1s"},
		"Both notice":          {"startup 1s\nfall 3", "startup 1s\nfall 2"},
		"Only the new notices": {"startup 1s\nfall 100", "startup 1s\nfall 1"},
	} {
		t.Run(way, func(t *testing.T) {
			lines := record(t)
			hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
			hosts[2].answer(silent)
			s := start(t, block(pool(name, hosts[:2], properties[0])))
			dead := make(chan struct{})
			asked := hosts[2].asked.Load()
			go func() {
				defer close(dead)
				within(bound, func() bool { return hosts[2].asked.Load() > asked }) // now it waits for this one
				hosts[0].answer(http.StatusServiceUnavailable)
			}()
			next := block(pool(name, hosts[:2], properties[1]),
				fmt.Sprintf("failover new.example.org %s {\n probe http://\n startup 1s\n}", hosts[2]))
			if err := renew(t, s, next); err != nil {
				t.Fatal(err)
			}
			<-dead
			wantAddresses(t, s.ask(name, dns.TypeA), "127.0.0.3")
			if got := lines(hosts[0].addr + ": up -> down"); len(got) != 1 {
				t.Errorf("The log has it as %q, want one line", got)
			}
			wantMetric(t, 1, "coredns_failover_transitions_total", "pool="+name, "to=down")
		})
	}
}

// When something else fails after the next Corefile has taken over, CoreDNS calls that a reload that has
// failed. The servers are the new ones all the same, and their answers have to be right.
func TestReloadFailsAtTheEnd(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	const name = "www.example.org."
	s := start(t, block(pool(name, hosts)))
	addr := s.udp()
	s.OnShutdown = append([]func() error{func() error { return errors.New("a plugin cannot shut down") }}, s.OnShutdown...)
	if err := renew(t, s, block(pool(name, hosts, "fall 2"))); err == nil {
		t.Fatal("The reload was to fail")
	}
	now := caddy.Instances()
	if len(now) != 1 || now[0] == s.Instance {
		t.Fatalf("CoreDNS has the instances %v, want the new one", now)
	}
	s.Instance = now[0]
	hosts[0].answer(http.StatusServiceUnavailable)
	eventually(t, bound, "a member that dies after that is down", func() bool { return len(lines(hosts[0].addr+": up -> down")) == 1 })
	wantAddresses(t, exchange(t, addr, "udp", question(name, dns.TypeA)), "127.0.0.3")
}
