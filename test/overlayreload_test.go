package test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A reload keeps what an overlay has found: what is down is left out of the very first answer, and nothing
// of it is said again. So it is with other settings.
func TestOverlayReload(t *testing.T) {
	lines := record(t)
	hosts := threeKin(t)
	below := overlayFile(t)
	s := start(t, block(over(hosts), below))
	taken(t, s, "example.org.", "up", 3, "www.example.org.")
	dies(t, hosts[0])
	said := len(reports(lines))
	for _, properties := range []string{"", "ttl 1s 3s", "fall 2", "rise 3", "timeout 150ms", "order sorted", "fallback none", "limit 3", "hold 1m", ""} {
		for _, overlay := range []string{over(hosts, properties), strings.Replace(over(hosts, properties), "interval 200ms", "interval 300ms", 1)} {
			begin := time.Now()
			if err := renew(t, s, block(overlay, below)); err != nil {
				t.Fatal(err)
			}
			wantAddresses(t, withoutNS(s.ask("www.example.org.", dns.TypeA)), "127.0.0.2", "127.0.0.4")
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("The reload with %q took %s: what was it waiting for?", properties, took)
			}
			for status, want := range map[string]float64{"up": 2, "down": 1, "unknown": 0} {
				wantMetric(t, want, "coredns_failover_members", "pool=example.org.", "status="+status)
			}
		}
	}
	if now := reports(lines); len(now) > said {
		t.Errorf("Reloads have been logged as %q", now[said:])
	}
	returns(t, hosts[0])
	wantAddresses(t, withoutNS(s.ask("www.example.org.", dns.TypeA)), "127.0.0.3", "127.0.0.2", "127.0.0.4")
	if now := reports(lines); len(now) != said+1 {
		t.Errorf("The change has been logged as %q", now[said:])
	}
	if err := renew(t, s, block(over(hosts, "limit 2"), below)); err != nil {
		t.Fatal(err)
	}
	eventually(t, bound, "of those found as many stay as there is room for", func() bool {
		n, _ := metric(t, "coredns_failover_members", "pool=example.org.")
		return n == 2
	})
}

// With another probe what was found of a member says nothing. It counts as up until it is asked. The log says that it
// is down, so it has a line when the new probe finds it up.
func TestOverlayReloadProbe(t *testing.T) {
	lines := record(t)
	hosts := threeKin(t)
	below := overlayFile(t)
	s := start(t, block(over(hosts), below))
	taken(t, s, "example.org.", "up", 3, "www.example.org.")
	hosts[0].answer(http.StatusServiceUnavailable)
	eventually(t, bound, "a member is down", func() bool { return len(lines("127.0.0.3: up -> down")) == 1 })
	if err := renew(t, s, block(strings.Replace(over(hosts), "probe http://example.org:", "probe tcp://:", 1), below)); err != nil {
		t.Fatal(err)
	}
	eventually(t, bound, "the member is up, for it accepts connections", func() bool { return len(lines("127.0.0.3: unknown -> up")) == 1 })
	settles(t, s, "www.example.org.", "127.0.0.3", "127.0.0.2", "127.0.0.4")
	if said := lines("unknown -> up"); len(said) != 1 {
		t.Errorf("The log has %q, want the member that was down, and none that was up", said)
	}
}

// A reload that fails, in whatever way, leaves the overlay as it was.
func TestOverlayFailedReload(t *testing.T) {
	for way, added := range broken(t) {
		t.Run(way, func(t *testing.T) {
			lines := record(t)
			hosts := threeKin(t)
			below := overlayFile(t)
			s := start(t, block(over(hosts), below))
			taken(t, s, "example.org.", "up", 3, "www.example.org.")
			dies(t, hosts[0])
			said := len(lines("[INFO] plugin/failover: "))
			for range 3 {
				err := renew(t, s, block(over(hosts, "fall 2", "fallback none"), below)+added.block)
				if err == nil || !strings.Contains(err.Error(), added.why) {
					t.Fatalf("The reload says %v, want that it failed because of %q", err, added.why)
				}
				wantAddresses(t, withoutNS(s.ask("www.example.org.", dns.TypeA)), "127.0.0.2", "127.0.0.4")
				wantAddresses(t, withoutNS(s.ask("single.example.org.", dns.TypeA)), "127.0.0.3")
			}
			if now := lines("[INFO] plugin/failover: "); len(now) > said {
				t.Errorf("A reload that failed has been logged as %q", now[said:])
			}
			returns(t, hosts[0])
			wantAddresses(t, withoutNS(s.ask("www.example.org.", dns.TypeA)), "127.0.0.3", "127.0.0.2", "127.0.0.4")
			if now := lines("[INFO] plugin/failover: "); len(now) != said+1 {
				t.Errorf("The change has been logged as %q", now[said:])
			}
		})
	}
}

// Reloads, and those that fail, under queries: no answer is lost, none is wrong, and nothing is left behind.
func TestOverlayReloadUnderLoad(t *testing.T) {
	lines := record(t)
	hosts := threeKin(t)
	below := overlayFile(t) + " {\n reload 0\n}" // what would reload it goes on in an instance that CoreDNS discards
	// How fast failover is under load is not the question here.
	over := func(i int) string {
		return strings.Replace(over(hosts, fmt.Sprintf("ttl %ds", 1+i), "timeout 1s"), "interval 200ms", "interval 1s", 1)
	}
	s := start(t, block(over(0), below))
	taken(t, s, "example.org.", "up", 3, "www.example.org.")
	dies(t, hosts[0])
	taken := takenPort(t)
	said := len(reports(lines))
	reload := func(i int) {
		t.Helper()
		if err := renew(t, s, block(over(i), below)); err != nil {
			t.Fatalf("Reload %d failed: %v", i, err)
		}
		if err := renew(t, s, block(over(i+1), below)+onPort(taken)); err == nil {
			t.Fatalf("Reload %d was to fail", i)
		}
	}
	reload(0) // what the first one opens for the process is no leak
	goroutines, files := footprint(t)
	load := press(t, s, "www.example.org.", 500, 10, "127.0.0.2", "127.0.0.4")
	for i := range 30 {
		reload(i)
	}
	load.stop()
	if now := reports(lines); len(now) > said {
		t.Errorf("Reloads have been logged as %q", now[said:])
	}
	wantFootprint(t, goroutines, files)
	if err := renew(t, s, block("whoami")); err != nil {
		t.Fatal(err)
	}
	still(t, "a member of the overlay that is gone", hosts[1].probesOf)
}

// An overlay that goes, and comes back, begins anew. Its probing ends with it, and so do its series.
func TestOverlayReloadForgets(t *testing.T) {
	hosts := threeKin(t)
	below := overlayFile(t)
	s := start(t, block(over(hosts), below))
	taken(t, s, "example.org.", "up", 3, "www.example.org.")
	dies(t, hosts[0])
	if err := renew(t, s, block(below)); err != nil {
		t.Fatal(err)
	}
	still(t, "a member of the overlay that is gone", hosts[1].probesOf)
	if names := seriesOf(t, "example.org."); len(names) > 0 {
		t.Errorf("There are still series of the overlay: %q", names)
	}
	wantAddresses(t, withoutNS(s.ask("www.example.org.", dns.TypeA)), "127.0.0.3", "127.0.0.2", "127.0.0.4")
	if err := renew(t, s, block(over(hosts), below)); err != nil {
		t.Fatal(err)
	}
	wantAddresses(t, withoutNS(s.ask("www.example.org.", dns.TypeA)), "127.0.0.3", "127.0.0.2", "127.0.0.4")
	settles(t, s, "www.example.org.", "127.0.0.2", "127.0.0.4")
}
