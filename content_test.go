package failover

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/rrset"

	"github.com/miekg/dns"
)

func TestBetter(t *testing.T) {
	configs, err := configured("failover www.example.org {\nprimary 192.0.2.1:443 192.0.2.2:443 [2001:db8::1]:443\nbackup b=192.0.2.3:443 192.0.2.4:443\nsrv http\nhttps\n}", "example.org.")
	if err != nil {
		t.Fatal(err)
	}
	p := &configs[0].Pool
	// From the worst to the best.
	check(t, p, []string{
		"fallback A 192.0.2.66",
		"fallback A 192.0.2.3",
		"fallback A 192.0.2.2",
		"fallback A 192.0.2.1 A 192.0.2.2",
		"",
		"A 192.0.2.2 A 192.0.2.3",
		"A 192.0.2.3",
		"A 192.0.2.3 A 192.0.2.4",
		"AAAA 2001:db8::1",
		"A 192.0.2.1 AAAA 2001:db8::1",
		"A 192.0.2.1 AAAA 2001:db8::1 HTTPS 1_._ipv4hint=192.0.2.1_ipv6hint=2001:db8::1 HTTPS 2_b.www.example.org._ipv4hint=192.0.2.3",
		"A 192.0.2.1 A 192.0.2.2 AAAA 2001:db8::1 HTTPS 1_._ipv4hint=192.0.2.1",
	})
	check(t, p, []string{
		"",
		"SRV 1_1_443_b.www.example.org.",
		"SRV 0_1_443_192-0-2-1.www.example.org. SRV 1_1_443_b.www.example.org.",
		"SRV 0_1_443_192-0-2-1.www.example.org. SRV 0_1_443_192-0-2-2.www.example.org. SRV 1_1_443_b.www.example.org.",
	})
	for text, want := range map[string]bool{"A 192.0.2.1": false, "A 192.0.2.66": true, "fallback A 192.0.2.66": false, "A 192.0.2.1 SRV 0_1_8443_192-0-2-1.www.example.org.": true} {
		if c := contentOf(t, text); strange(&c, p) != want {
			t.Errorf("%q is strange: %v, want %v", text, !want, want)
		}
	}
}

// check sees that better has the contents in this order, whichever is first.
func check(t *testing.T, p *pool.Pool, order []string) {
	t.Helper()
	for i, worse := range order {
		for j, best := range order {
			a, b := contentOf(t, worse), contentOf(t, best)
			if got := better(&a, &b, p); got != (i > j) {
				t.Errorf("better(%q, %q) is %v", worse, best, got)
			}
		}
	}
}

// contentOf makes a content of pairs of type and data.
func contentOf(t *testing.T, text string) content {
	t.Helper()
	text, fallback := strings.CutPrefix(text, "fallback ")
	words := strings.Fields(text)
	sets := make(map[uint16][]dns.RR)
	for i := 0; i < len(words); i += 2 {
		rr, err := dns.NewRR("www.example.org. 5 " + words[i] + " " + strings.ReplaceAll(words[i+1], "_", " "))
		if err != nil {
			t.Fatal(err)
		}
		sets[rr.Header().Rrtype] = append(sets[rr.Header().Rrtype], rr)
	}
	return newContent(sets, fallback)
}

// It is a total order over whatever there is: of three there is no ring.
func TestBetterIsTotal(t *testing.T) {
	var p pool.Pool
	var addrs []netip.Addr
	for i := range 6 {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		addrs = append(addrs, addr)
		if i%2 == 0 && i < 5 {
			p.Tiers = append(p.Tiers, nil)
		}
		if i < 5 { // the last is no member
			p.Tiers[i/2] = append(p.Tiers[i/2], pool.Member{Addr: addr})
		}
	}
	some := func() *content {
		var used []netip.Addr
		for _, a := range addrs {
			if rand.IntN(2) == 0 {
				used = append(used, a)
			}
		}
		c := newContent(map[uint16][]dns.RR{dns.TypeA: rrset.Addresses("www.example.org.", used, 5)}, rand.IntN(4) == 0)
		return &c
	}
	for range 3000 {
		a, b, c := some(), some(), some()
		same := a.hash == b.hash && a.fallback == b.fallback
		if better(a, b, &p) == better(b, a, &p) != same {
			t.Fatalf("%s and %s: neither is better, or both", a, b)
		}
		if better(a, b, &p) && better(b, c, &p) && !better(a, c, &p) {
			t.Fatalf("%s is better than %s, and that than %s, but the first not than the last", a, b, c)
		}
	}
}

// The hash is of the data, and of nothing else.
func TestContentHash(t *testing.T) {
	same := [][2]string{
		{"A 192.0.2.1 A 192.0.2.2", "A 192.0.2.2 A 192.0.2.1"},
		{"SRV 0_1_443_b.www.example.org.", "SRV 0_1_443_B.WWW.example.ORG."},
		{"HTTPS 1_._alpn=h2_port=8443", "HTTPS 1_._port=8443_alpn=h2"},
	}
	for _, s := range same {
		if a, b := contentOf(t, s[0]), contentOf(t, s[1]); a.hash != b.hash {
			t.Errorf("%s has the hash %s, and %s has %s", s[0], a.hash, s[1], b.hash)
		}
	}
	seen := make(map[string]string)
	for _, s := range []string{"", "A 192.0.2.1", "A 192.0.2.2", "A 192.0.2.1 A 192.0.2.2", "AAAA ::192.0.2.1", "A 192.0.2.1 HTTPS 1_."} {
		c := contentOf(t, s)
		if before, ok := seen[c.hash]; ok {
			t.Errorf("%q and %q have the same hash", before, s)
		}
		seen[c.hash] = s
	}
}

func TestMarker(t *testing.T) {
	for _, text := range []string{"A 192.0.2.1", "fallback A 192.0.2.1 HTTPS 1_.", "SRV 0_1_443_a.", ""} {
		c := contentOf(t, text)
		if m := c.marker("me"); fmt.Sprint(readMarker(m.text)) != fmt.Sprint(m) || m.hash != c.hash {
			t.Errorf("The marker %+v of %q is read as %+v", m, text, readMarker(m.text))
		}
	}
	for text, want := range map[string]string{
		"": "", "failovers": "", "Failover": "", "v=spf1": "",
		"failover":                    "A AAAA SRV HTTPS",
		"failover 0123":               "",
		"failover 0123 me AAAA,SRV":   "AAAA SRV",
		"failover 0123 me A,MX,FOO x": "A",
	} {
		m := readMarker(text)
		var got []string
		for _, of := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeSRV, dns.TypeHTTPS} {
			if m.names(of) && (m.hash != "" || of != dns.TypeMX) {
				got = append(got, dns.TypeToString[of])
			}
		}
		if strings.Join(got, " ") != want || m.text != "" && m.text != text {
			t.Errorf("%q names %q, want %q", text, got, want)
		}
	}
}
