package test

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Names with addresses of their own inside an overlay are their pool's; their other types are the next
// plugin's, and so are the other names.
func TestOverlayBesidePool(t *testing.T) {
	hosts := threeKin(t)
	below := overlayFile(t)
	s := start(t, block(over(hosts), upPool(t, "www.example.org", "*.apps.example.org", "a.b.example.org"), below)+blockOn(beneath, below))
	taken(t, s, "example.org.", "up", 3, "alias.example.org.")
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
	wantAddresses(t, s.ask("any.apps.example.org.", dns.TypeA), usual...)
	wantRecords(t, s.ask("www.example.org.", dns.TypeAAAA), dns.RcodeSuccess, fileSOA)
	for _, name := range []string{"www.example.org.", "alias.example.org.", "absent.example.org."} {
		for _, qtype := range []uint16{dns.TypeTXT, dns.TypeCAA, dns.TypeNS} {
			wantSame(t, s, question(name, qtype), asIs)
		}
	}
	wantRecords(t, s.ask("b.example.org.", dns.TypeA), dns.RcodeSuccess, fileSOA)
	wantRecords(t, s.ask("any.apps.example.org.", dns.TypeTXT), dns.RcodeSuccess, fileSOA)
	dies(t, hosts[0])
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
	wantAddresses(t, withoutNS(s.ask("short.example.org.", dns.TypeA)), "127.0.0.2")
	// A chain in the file leads to the file's own addresses, which are put right like any others.
	wantRecords(t, s.ask("alias.example.org.", dns.TypeA), dns.RcodeSuccess, "alias.example.org. 3600 IN CNAME second.example.org.",
		"second.example.org. 1800 IN CNAME www.example.org.", "www.example.org. 5 IN A 127.0.0.2", "www.example.org. 5 IN A 127.0.0.4", "IN NS")
	// So are those that come along with other types of a pool's name.
	m := s.ask("_http._tcp.example.org.", dns.TypeSRV)
	if got := addresses(&dns.Msg{Answer: m.Extra}); len(got) < 3 || got[0] != "127.0.0.2" || got[1] != "127.0.0.4" {
		t.Errorf("The addresses that come with %s are %v, want those that are up", title(m), got)
	}
}

// Other types of a pool's name come from the next plugin, with addresses that an overlay puts right.
func TestOverlayBeneathPool(t *testing.T) {
	hosts := threeKin(t)
	s := start(t, block(over(hosts), upPool(t, "example.org", "_http._tcp.example.org"), overlayFile(t)))
	taken(t, s, "example.org.", "up", 3+2, "www.example.org.") // the pool has the overlay's name, and two members
	dies(t, hosts[0])
	wantAddresses(t, s.ask("example.org.", dns.TypeA), usual...)
	for name, qtype := range map[string]uint16{"example.org.": dns.TypeMX, "_http._tcp.example.org.": dns.TypeSRV} {
		m := s.ask(name, qtype)
		if got := addresses(&dns.Msg{Answer: m.Extra}); len(got) < 3 || got[0] != "127.0.0.2" || got[1] != "127.0.0.4" {
			t.Errorf("The addresses that come with %s are %v, want those that are up:\n%v", title(m), got, m)
		}
	}
}

// An overlay is for its names and all below them; of two it is the one for the longer name that counts. What
// lies outside is passed on.
func TestOverlayNames(t *testing.T) {
	hosts := threeKin(t)
	below := overlayFile(t)
	s := start(t, block(
		overNames(hosts, "www.example.org wild.example.org", "order sorted"),
		overNames(hosts, "inner.wild.example.org second.example.org", "prefer 127.0.0.3/32"), below)+blockOn(beneath, below))
	ask := func(name string, want ...string) {
		t.Helper()
		wantAddresses(t, withoutNS(s.ask(name, dns.TypeA)), want...)
	}
	ask("www.example.org.", "127.0.0.2", "127.0.0.3", "127.0.0.4")
	ask("any.wild.example.org.", "127.0.0.2", "127.0.0.3")
	ask("deep.any.wild.example.org.", "127.0.0.2", "127.0.0.3")
	ask("x.inner.wild.example.org.", "127.0.0.3", "127.0.0.2")
	ask("INNER.wild.example.org.", "127.0.0.3", "127.0.0.2")
	for _, name := range []string{"short.example.org.", "single.example.org.", "ns.example.org.", "alias.example.org.", "xwww.example.org."} {
		wantSame(t, s, question(name, dns.TypeA), asIs)
	}
	// It is the name asked for that counts, not the end of its chain.
	taken(t, s, "www.example.org.", "up", 3, "www.example.org.")
	dies(t, hosts[0])
	wantSame(t, s, question("alias.example.org.", dns.TypeA), asIs)
	ask("any.wild.example.org.", "127.0.0.2")
}

// A name outside, an overlay without a plugin beneath, and loadbalance are refused at the start.
func TestOverlayRefused(t *testing.T) {
	hosts := kin(t, "127.0.0.3")
	for what, corefile := range map[string]string{
		"without a plugin that could answer": block(over(hosts)),
		"outside of the server block":        block(overNames(hosts, "www.example.net"), hostsLines),
		"loadbalance":                        block("loadbalance", over(hosts), hostsLines),
		"is already in the":                  block(over(hosts), over(hosts), hostsLines),
	} {
		if _, err := attempt(t, corefile); err == nil {
			t.Errorf("CoreDNS starts with\n%s\nwant an error that has %q", corefile, what)
		} else {
			wantError(t, err, what)
		}
	}
}

// wantError checks that an error says why.
func wantError(t testing.TB, err error, why string) {
	t.Helper()
	if !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "plugin/failover: Corefile:") {
		t.Errorf("The error is %q, want the line and %q in it", err, why)
	}
}
