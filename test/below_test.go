package test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// wantRecords checks the rcode and the records of a message. Every want is a part of one record, in
// the order of the answer section and then of the authority section.
func wantRecords(t testing.TB, m *dns.Msg, rcode int, want ...string) {
	t.Helper()
	rrs := slices.Concat(m.Answer, m.Ns)
	if m.Rcode != rcode || len(rrs) != len(want) {
		t.Errorf("The answer to %s is\n%v\nwant %s and %q", title(m), m, dns.RcodeToString[rcode], want)
		return
	}
	for i, rr := range rrs {
		if said := strings.ReplaceAll(rr.String(), "\t", " "); !strings.Contains(said, want[i]) {
			t.Errorf("Record %d for %s is %q, want %q in it", i, title(m), said, want[i])
		}
	}
}

const fileSOA = "IN SOA ns.example.org. hostmaster.example.org. 2026110101 7200 1800 86400 300"

// A zone file below failover says the rest of its names.
func TestOverFile(t *testing.T) {
	s := start(t, block(
		upPool(t, "www.example.org", "nowhere.example.org", "alias.example.org", "www.cut.example.org", "a.b.example.org"),
		file(t)))
	for _, name := range []string{"www", "nowhere", "alias", "www.cut", "a.b"} {
		wantAddresses(t, s.ask(name+".example.org.", dns.TypeA), usual...)
		if ns := s.ask(name+".example.org.", dns.TypeA).Ns; len(ns) > 0 {
			t.Errorf("The authority section for %s is %v, want none", name, ns)
		}
	}
	for _, tc := range []struct {
		name  string
		qtype uint16
		rcode int
		aa    bool
		want  []string
	}{
		{"www.example.org.", dns.TypeTXT, dns.RcodeSuccess, true, []string{`"of the zone file"`, "IN NS ns.example.org."}},
		{"www.example.org.", dns.TypeMX, dns.RcodeSuccess, true, []string{"10 mail.example.org.", "IN NS ns.example.org."}},
		{"www.example.org.", dns.TypeCAA, dns.RcodeSuccess, true, []string{fileSOA}},
		{"nowhere.example.org.", dns.TypeTXT, dns.RcodeSuccess, true, []string{fileSOA}}, // the zone file says NXDOMAIN
		{"b.example.org.", dns.TypeA, dns.RcodeSuccess, true, []string{fileSOA}},
		{"www.cut.example.org.", dns.TypeTXT, dns.RcodeSuccess, false, []string{"cut.example.org. 3600 IN NS ns.cut.example.org."}},
		{"example.org.", dns.TypeSOA, dns.RcodeSuccess, true, []string{fileSOA, "IN NS ns.example.org."}},
		{"absent.example.org.", dns.TypeA, dns.RcodeNameError, true, []string{fileSOA}},
	} {
		m := s.ask(tc.name, tc.qtype)
		wantRecords(t, m, tc.rcode, tc.want...)
		if m.Authoritative != tc.aa {
			t.Errorf("AA for %s is %t, want %t", title(m), m.Authoritative, tc.aa)
		}
	}
}

// What failover does not know goes through it untouched: the answers are those of the same zone file
// without failover, byte for byte.
func TestBeside(t *testing.T) {
	const alone = "127.0.0.53"
	s := start(t, block(upPool(t, "www.example.org", "*.pool.example.org"), file(t))+blockOn(alone, file(t)))
	for _, name := range []string{
		"example.org.", "beside.example.org.", "BeSide.example.org.", "alias.example.org.", "mail.example.org.",
		"absent.example.org.", "any.star.example.org.", "star.example.org.", "host.cut.example.org.",
		"cut.example.org.", "below.www.example.org.", "deep.wild.example.org.", "*.star.example.org.",
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeSOA, dns.TypeNS, dns.TypeDS, dns.TypeANY, dns.TypeCNAME} {
			for _, do := range []bool{false, true} {
				query := question(name, qtype).SetEdns0(1232, do)
				got := exchange(t, s.udp(), "udp", query)
				want := exchange(t, s.udp(alone), "udp", query)
				one, _ := got.Pack()
				other, _ := want.Pack()
				if !bytes.Equal(one, other) {
					t.Errorf("The answer is\n%v\nwithout failover\n%v", got, want)
				}
			}
		}
	}
}

// A wildcard does not cover what the zone file below has: a name, what lies under it, a zone cut.
func TestWildcardOverFile(t *testing.T) {
	s := start(t, block(upPool(t, "*.wild.example.org"), file(t)))
	wantAddresses(t, s.ask("any.wild.example.org.", dns.TypeA), usual...)
	wantAddresses(t, s.ask("any.other.wild.example.org.", dns.TypeA), usual...)
	wantRecords(t, s.ask("any.wild.example.org.", dns.TypeTXT), dns.RcodeSuccess, fileSOA)
	wantRecords(t, s.ask("wild.example.org.", dns.TypeA), dns.RcodeSuccess, fileSOA)
	for _, tc := range []struct {
		name, about string
		qtype       uint16
		rcode       int
		want        []string
	}{
		{"host.wild.example.org.", "a name with an address", dns.TypeA, dns.RcodeSuccess, []string{"192.0.2.90", "IN NS"}},
		{"text.wild.example.org.", "a name without an address", dns.TypeA, dns.RcodeSuccess, []string{fileSOA}},
		{"text.wild.example.org.", "the type it has", dns.TypeTXT, dns.RcodeSuccess, []string{`"only text"`, "IN NS"}},
		{"deep.wild.example.org.", "an empty non-terminal", dns.TypeA, dns.RcodeSuccess, []string{fileSOA}},
		{"below.host.wild.example.org.", "under a name", dns.TypeA, dns.RcodeNameError, []string{fileSOA}},
		{"beside-x.deep.wild.example.org.", "under an empty non-terminal", dns.TypeA, dns.RcodeNameError, []string{fileSOA}},
		{"cut.wild.example.org.", "a zone cut", dns.TypeA, dns.RcodeSuccess, []string{"IN NS ns.cut.example.org."}},
		{"host.cut.wild.example.org.", "under a zone cut", dns.TypeA, dns.RcodeSuccess, []string{"IN NS ns.cut.example.org."}},
	} {
		t.Run(tc.about, func(t *testing.T) {
			wantRecords(t, s.ask(tc.name, tc.qtype), tc.rcode, tc.want...)
		})
	}
}

// Without anybody below, a name that exists has no data of other types; a plugin below that does not
// know it makes no difference.
func TestOverOthers(t *testing.T) {
	hosts := "hosts {\n 192.0.2.7 beside.example.org\n 192.0.2.8 www.example.org\n fallthrough\n}"
	t.Run("hosts", func(t *testing.T) {
		s := start(t, block(upPool(t, "www.example.org"), hosts))
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
		wantAddresses(t, s.ask("beside.example.org.", dns.TypeA), "192.0.2.7")
		wantNegative(t, s.ask("www.example.org.", dns.TypeAAAA), dns.RcodeSuccess, "example.org.", 60)
		// It says NOERROR without SOA, for it has an address of the name.
		wantNegative(t, s.ask("www.example.org.", dns.TypeTXT), dns.RcodeSuccess, "example.org.", 60)
		wantNegative(t, s.ask("absent.example.org.", dns.TypeA), dns.RcodeNameError, "example.org.", 60)
	})
	t.Run("hosts without the name", func(t *testing.T) {
		s := start(t, block(upPool(t, "other.example.org", "*.wild.example.org"), hosts))
		wantNegative(t, s.ask("other.example.org.", dns.TypeTXT), dns.RcodeSuccess, "example.org.", 60)
		wantAddresses(t, s.ask("any.wild.example.org.", dns.TypeA), usual...)
	})
	t.Run("template", func(t *testing.T) {
		s := start(t, block(upPool(t, "www.example.org"),
			"template IN TXT example.org {\n answer \"{{ .Name }} 60 IN TXT below\"\n}",
			"template IN MX example.org {\n rcode NXDOMAIN\n}",
			"template IN SRV example.org {\n rcode SERVFAIL\n}",
			"template IN CAA example.org {\n rcode REFUSED\n}",
			"template IN A example.org {\n answer \"{{ .Name }} 60 IN A 192.0.2.9\"\n}"))
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
		wantAddresses(t, s.ask("beside.example.org.", dns.TypeA), "192.0.2.9")
		wantRecords(t, s.ask("www.example.org.", dns.TypeTXT), dns.RcodeSuccess, `TXT "below"`)
		wantNegative(t, s.ask("www.example.org.", dns.TypeMX), dns.RcodeSuccess, "example.org.", 60)
		wantRecords(t, s.ask("www.example.org.", dns.TypeSRV), dns.RcodeServerFailure)
		wantRecords(t, s.ask("www.example.org.", dns.TypeCAA), dns.RcodeRefused)
		wantNegative(t, s.ask("www.example.org.", dns.TypeHTTPS), dns.RcodeSuccess, "example.org.", 60)
		wantRecords(t, s.ask("beside.example.org.", dns.TypeMX), dns.RcodeNameError)
	})
	t.Run("erratic", func(t *testing.T) {
		s := start(t, block(upPool(t, "www.example.org"), "erratic {\n drop 0\n delay 0\n truncate 0\n}"))
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
		wantRecords(t, s.ask("www.example.org.", dns.TypeTXT), dns.RcodeServerFailure)
	})
	t.Run("a zone file of another zone", func(t *testing.T) {
		other := strings.ReplaceAll(zoneFile, "example.org.", "example.net.")
		s := start(t, "example.org:0 example.net:0 {\n bind 127.0.0.1\n "+upPool(t, "www.example.org")+
			"\n file "+write(t, "db.example.net", other)+" example.net\n}")
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
		wantAddresses(t, s.ask("beside.example.net.", dns.TypeA), "192.0.2.1", "192.0.2.2")
		wantNegative(t, s.ask("www.example.org.", dns.TypeTXT), dns.RcodeSuccess, "example.org.", 60)
		wantNegative(t, s.ask("absent.example.org.", dns.TypeA), dns.RcodeNameError, "example.org.", 60)
	})
}

// With forward below the rest of the world is asked for what a pool does not say, and never whether a
// wildcard's name exists.
func TestOverForward(t *testing.T) {
	world := start(t, block(file(t), `log . "world {name} {type}"`))
	s := start(t, ".:0 {\n bind 127.0.0.1\n "+upPool(t, "www.example.org", "nowhere.example.org", "*.wild.example.org")+"\n forward . "+world.udp()+"\n}")
	lines := record(t)
	for _, name := range []string{"www.example.org.", "nowhere.example.org.", "any.wild.example.org.", "host.wild.example.org."} {
		wantAddresses(t, s.ask(name, dns.TypeA), usual...)
	}
	if asked := lines("world "); len(asked) > 0 {
		t.Errorf("Forward was asked for addresses of the pool: %q", asked)
	}
	wantRecords(t, s.ask("www.example.org.", dns.TypeTXT), dns.RcodeSuccess, `"of the zone file"`, "IN NS")
	wantRecords(t, s.ask("nowhere.example.org.", dns.TypeTXT), dns.RcodeSuccess, fileSOA)
	wantRecords(t, s.ask("absent.example.org.", dns.TypeA), dns.RcodeNameError, fileSOA)
	wantAddresses(t, s.ask("mail.example.org.", dns.TypeA), "192.0.2.25")
}

// A zone transfer goes past failover to the plugin that has the zone.
func TestTransfer(t *testing.T) {
	s := start(t, block(upPool(t, "www.example.org"), "transfer {\n to *\n}", file(t)))
	for _, query := range []*dns.Msg{
		new(dns.Msg).SetAxfr("example.org."),
		new(dns.Msg).SetIxfr("example.org.", 2026110100, "ns.example.org.", "hostmaster.example.org."),
	} {
		envelopes, err := new(dns.Transfer).In(query, s.tcp())
		if err != nil {
			t.Fatalf("No transfer: %v", err)
		}
		var all []dns.RR
		for e := range envelopes {
			if e.Error != nil {
				t.Fatalf("The transfer failed: %v", e.Error)
			}
			all = append(all, e.RR...)
		}
		if n := len(all); n < 17 || all[0].Header().Rrtype != dns.TypeSOA || all[n-1].Header().Rrtype != dns.TypeSOA {
			t.Fatalf("%d records came, want the whole zone between two SOA records:\n%v", n, all)
		}
		var said []string
		for _, rr := range all {
			said = append(said, strings.ReplaceAll(rr.String(), "\t", " "))
		}
		for _, want := range []string{"beside.example.org. 3600 IN A 192.0.2.1", `www.example.org. 3600 IN TXT "of the zone file"`} {
			if !slices.Contains(said, want) {
				t.Errorf("%q is not in the transfer:\n%s", want, strings.Join(said, "\n"))
			}
		}
	}
	// These two are refused below, over UDP.
	wantRecords(t, exchange(t, s.udp(), "udp", new(dns.Msg).SetAxfr("www.example.org.")), dns.RcodeRefused)
	wantRecords(t, exchange(t, s.udp(), "udp", new(dns.Msg).SetIxfr("example.org.", 1, "ns.example.org.", "hostmaster.example.org.")), dns.RcodeRefused)
}

// NOTIFY and UPDATE go past failover, even for the names of a pool.
func TestOpcodes(t *testing.T) {
	t.Run("NOTIFY", func(t *testing.T) {
		lines := record(t)
		s := start(t, block(upPool(t, "www.example.org"), file(t)))
		conn := connection(t, s, "udp")
		notify := new(dns.Msg).SetNotify("www.example.org.")
		for _, notify.Question[0].Qtype = range []uint16{dns.TypeSOA, dns.TypeA} {
			if err := conn.WriteMsg(notify); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, bound, "file has both", func() bool { return len(lines("Dropping notify from 127.0.0.1 for example.org.")) == 2 })
		// It is silent about that: what comes next is the answer to another question.
		if m := unpack(t, wire(t, conn, question("beside.example.org.", dns.TypeA))); m.Opcode != dns.OpcodeQuery {
			t.Errorf("The NOTIFY was answered with\n%v", m)
		}
	})
	t.Run("UPDATE", func(t *testing.T) {
		s := start(t, block(upPool(t, "www.example.org"),
			"tsig {\n secret key.example.org. "+tsigSecret+"\n require_opcode UPDATE\n}",
			"dynupdate {\n file "+write(t, "db.example.org", zoneFile)+"\n allow key.example.org. * *\n}"))
		update := new(dns.Msg).SetUpdate("example.org.")
		txt, _ := dns.NewRR("www.example.org. 60 IN TXT updated")
		a, _ := dns.NewRR("new.example.org. 60 IN A 192.0.2.99")
		update.Insert([]dns.RR{txt, a})
		if m := signedExchange(t, s.udp(), update); m.Rcode != dns.RcodeSuccess || m.Opcode != dns.OpcodeUpdate {
			t.Fatalf("The UPDATE is answered with\n%v", m)
		}
		if m := s.ask("www.example.org.", dns.TypeTXT); len(m.Answer) != 2 {
			t.Errorf("The answer after the UPDATE is\n%v\nwant the new TXT as well", m)
		}
		wantAddresses(t, s.ask("new.example.org.", dns.TypeA), "192.0.2.99")
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
	})
}

const tsigSecret = "NoTCJU+DMqFWywaPyxSijrDEA/eC3nK0xi3AMEZuPVk="

// signedExchange signs a message with the key key.example.org, and checks the signature of the answer.
func signedExchange(t testing.TB, addr string, m *dns.Msg) *dns.Msg {
	t.Helper()
	m = m.Copy().SetTsig("key.example.org.", dns.HmacSHA256, 300, time.Now().Unix())
	c := &dns.Client{TsigSecret: map[string]string{"key.example.org.": tsigSecret}}
	r, _, err := c.Exchange(m, addr)
	if err != nil {
		t.Fatalf("No answer to a signed message: %v", err)
	}
	return r
}

// Another class is not failover's business.
func TestClass(t *testing.T) {
	s := start(t, "example.org:0 version.bind:0 {\n bind 127.0.0.1\n chaos failover-test\n "+upPool(t, "www.example.org")+
		"\n template CH A example.org {\n answer \"{{ .Name }} 60 CH A 192.0.2.9\"\n}\n}")
	query := question("version.bind.", dns.TypeTXT)
	query.Question[0].Qclass = dns.ClassCHAOS
	wantRecords(t, exchange(t, s.udp(), "udp", query), dns.RcodeSuccess, `version.bind. 0 CH TXT "failover-test"`)
	query = question("www.example.org.", dns.TypeA)
	query.Question[0].Qclass = dns.ClassCHAOS
	wantRecords(t, exchange(t, s.udp(), "udp", query), dns.RcodeSuccess, "www.example.org. 60 CH A ")
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
}
