package test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// The addresses of a HTTPS record's target are those in its hints: clients that have both, or ask for the
// addresses, go by the addresses and leave the hints (RFC 9460, section 7.3).
func TestPeerHTTPSTargets(t *testing.T) {
	hosts := members(t, "127.0.0.3", "127.0.0.2", "127.0.0.4")
	s := start(t, block(fmt.Sprintf("failover www.example.org {\n primary %s\n backup %s\n backup %s\n https\n}", hosts[0], hosts[1], hosts[2])))
	m := s.ask("www.example.org.", dns.TypeHTTPS)
	if len(m.Answer) != len(hosts) {
		t.Fatalf("The answer is\n%v\nwant a record for each tier", m)
	}
	for _, rr := range m.Answer {
		https := rr.(*dns.HTTPS)
		target := https.Target
		if target == "." { // the owner itself
			target = https.Hdr.Name
		}
		var hints []string
		for _, value := range https.Value {
			if hint, ok := value.(*dns.SVCBIPv4Hint); ok {
				for _, ip := range hint.Hint {
					hints = append(hints, ip.String())
				}
			}
		}
		if got := addresses(s.ask(target, dns.TypeA)); !slices.Equal(got, hints) {
			t.Errorf("The target %s of priority %d has the addresses %v, want those of its hints, %v", target, https.Priority, got, hints)
		}
	}
}
