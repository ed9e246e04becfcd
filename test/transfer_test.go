package test

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// axfr transfers a zone from a server, as serial has it: all of it for 0. An error is that of the transfer.
func axfr(t testing.TB, addr, zone string, serial uint32) ([]dns.RR, error) {
	t.Helper()
	m := new(dns.Msg).SetAxfr(zone)
	if serial != 0 {
		m.SetIxfr(zone, serial, "ns.", "mbox.")
	}
	tr := &dns.Transfer{ReadTimeout: 5 * time.Second}
	ch, err := tr.In(m, addr)
	if err != nil {
		return nil, err
	}
	var rrs []dns.RR
	for e := range ch {
		if e.Error != nil {
			err = e.Error
		}
		rrs = append(rrs, e.RR...)
	}
	return rrs, err
}

// serialOf is the serial number in the answer for a zone's SOA.
func serialOf(t testing.TB, addr string) uint32 {
	t.Helper()
	m := exchange(t, addr, "udp", question("example.org.", dns.TypeSOA))
	if len(m.Answer) != 1 {
		t.Fatalf("No SOA in %v", m)
	}
	return m.Answer[0].(*dns.SOA).Serial
}

// cache keeps its hands off the SOA: secondaries ask for it because of a NOTIFY.
func TestTransferBelowCache(t *testing.T) {
	hosts := members(t, usual...)
	s := start(t, block("cache 3600", "failover {\n interval 400ms\n recheck 20ms\n}", "failover www.example.org "+hosts[0].addr+" "+hosts[1].addr, "transfer {\n to *\n}", file(t)))
	before := serialOf(t, s.udp())
	hosts[0].stop()
	eventually(t, bound, "the serial moves", func() bool { return serialOf(t, s.udp()) != before })
	rrs, err := axfr(t, s.tcp(), "example.org.", before)
	if err != nil || len(rrs) != 5 || rrs[0].(*dns.SOA).Serial != serialOf(t, s.udp()) {
		t.Errorf("IXFR from %d: %v %v, want one record to go", before, rrs, err)
	}
}

// Every plugin that has zones can have them go out with the pools in them.
func TestTransferFrom(t *testing.T) {
	zone := write(t, "db.example.org", zoneFile)
	dir := strings.TrimSuffix(zone, "/db.example.org")
	source := start(t, blockOn("127.0.0.9", "file "+zone, "transfer {\n to *\n}"))
	for _, below := range []string{
		"file " + zone,
		"auto {\n directory " + dir + "\n}",
		"secondary {\n transfer from " + source.tcp("127.0.0.9") + "\n}",
		"dynupdate {\n file " + zone + "\n allow key.example.org. * *\n}",
	} {
		word, _, _ := strings.Cut(below, " ")
		t.Run(word, func(t *testing.T) {
			s := start(t, block(upPool(t, "www.example.org", "*.wild.example.org"), "transfer {\n to *\n}", below))
			var rrs []dns.RR
			eventually(t, bound, "the zone is there", func() bool {
				var err error
				rrs, err = axfr(t, s.tcp(), "example.org.", 0)
				return err == nil
			})
			text := ""
			for _, rr := range rrs {
				text += strings.Join(strings.Fields(rr.String()), " ") + "\n"
			}
			for _, want := range []string{"\nwww.example.org. 7 IN A 127.0.0.3\nwww.example.org. 7 IN A 127.0.0.2\n", "\n*.wild.example.org. 7 IN A 127.0.0.2\n", "\nwww.example.org. 3600 IN TXT", "\nmail.example.org. 3600 IN A 192.0.2.25\n"} {
				if !strings.Contains(text, want) {
					t.Errorf("Without %q:\n%s", want, text)
				}
			}
			if strings.Contains(text, "192.0.2.80") {
				t.Errorf("With what the pool answers instead:\n%s", text)
			}
			if soa := rrs[0].(*dns.SOA); soa.Serial != serialOf(t, s.udp()) || soa.Serial < 2026110101 {
				t.Errorf("SOA %s, %d is answered", soa, serialOf(t, s.udp()))
			}
		})
	}
}

// A zone that nobody could be a secondary of is refused, and so is everything without the transfer plugin.
func TestTransferRefused(t *testing.T) {
	said := record(t)
	s := start(t, block(upPool(t, "www.example.org"), "transfer {\n to *\n}"))
	for range 2 {
		if _, err := axfr(t, s.tcp(), "example.org.", 0); err == nil || !strings.Contains(err.Error(), "bad xfr rcode: 5") {
			t.Errorf("Transfer of a zone without NS: %v, want REFUSED", err)
		}
	}
	if lines := said("example.org. is not transferred: the zone has no NS record"); len(lines) != 2 {
		t.Errorf("Lines %q, want one for each transfer", lines)
	}
	if m := exchange(t, s.tcp(), "tcp", question("www.example.org.", dns.TypeAXFR)); m.Rcode != dns.RcodeRefused {
		t.Errorf("Transfer of what is no zone: %v, want REFUSED", m)
	}
}
