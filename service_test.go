package failover

import (
	"context"
	"testing"

	"github.com/miekg/dns"
)

// many is a pool whose records leave the choice to clients.
const many = `failover www.example.org web.example.org *.apps.example.org {
	primary fra=192.0.2.1:443 [2001:db8::1]:443
	backup  192.0.2.2:8443 FRA2=192.0.2.3:443
	backup  192.0.2.4:443
	srv     http sip/udp
	https   alpn=h2,h3 no-default-alpn
`

func TestServices(t *testing.T) {
	const (
		soa   = " / example.org. 5 SOA minimum 5"
		first = "NOERROR aa _http._tcp.www.example.org. 7 SRV 0 1 443 fra.www.example.org., _http._tcp.www.example.org. 7 SRV 0 1 443 2001-db8--1.www.example.org."
		rest  = ", _http._tcp.www.example.org. 7 SRV 1 1 8443 192-0-2-2.www.example.org., _http._tcp.www.example.org. 7 SRV 1 1 443 fra2.www.example.org., _http._tcp.www.example.org. 7 SRV 2 1 443 192-0-2-4.www.example.org."
		adds  = " + fra.www.example.org. 7 A 192.0.2.1 + 2001-db8--1.www.example.org. 7 AAAA 2001:db8::1"
		addsR = " + 192-0-2-2.www.example.org. 7 A 192.0.2.2 + fra2.www.example.org. 7 A 192.0.2.3 + 192-0-2-4.www.example.org. 7 A 192.0.2.4"
		https = "NOERROR aa www.example.org. 7 HTTPS 1 . "
		alpn  = `alpn="h2,h3" no-default-alpn=""`
	)
	tests := []struct {
		more     string
		statuses string // of the members, tier after tier
		question string
		want     string
	}{
		{"", "+++++", "_http._tcp.www.example.org. SRV", first + rest + adds + addsR},
		{"", "+++++", "_http._tcp.www.example.org. ANY", first + rest + adds + addsR},
		{"", "-++-+", "_http._tcp.www.example.org. SRV", "NOERROR aa _http._tcp.www.example.org. 7 SRV 0 1 443 2001-db8--1.www.example.org., _http._tcp.www.example.org. 7 SRV 1 1 8443 192-0-2-2.www.example.org., _http._tcp.www.example.org. 7 SRV 2 1 443 192-0-2-4.www.example.org." +
			" + 2001-db8--1.www.example.org. 7 AAAA 2001:db8::1 + 192-0-2-2.www.example.org. 7 A 192.0.2.2 + 192-0-2-4.www.example.org. 7 A 192.0.2.4"},
		{"", "--+++", "_http._tcp.www.example.org. SRV", "NOERROR aa " + rest[2:] + addsR},
		// Not in use: a tier that is not usable is nobody's choice, though a member of it is up.
		{"min 50%", "--+-+", "_http._tcp.www.example.org. SRV", "NOERROR aa _http._tcp.www.example.org. 7 SRV 1 1 8443 192-0-2-2.www.example.org., _http._tcp.www.example.org. 7 SRV 2 1 443 192-0-2-4.www.example.org. + 192-0-2-2.www.example.org. 7 A 192.0.2.2 + 192-0-2-4.www.example.org. 7 A 192.0.2.4"},
		{"min 51%", "+-+-+", "_http._tcp.www.example.org. SRV", "NOERROR aa _http._tcp.www.example.org. 7 SRV 2 1 443 192-0-2-4.www.example.org. + 192-0-2-4.www.example.org. 7 A 192.0.2.4"},

		{"", "-----", "_http._tcp.www.example.org. SRV edns", first + rest + adds + addsR + " EDE 0 (Other): (no tier is usable: fallback all)"},
		{"fallback primary", "-----", "_http._tcp.www.example.org. SRV", first + adds},
		{"fallback none", "-----", "_http._tcp.www.example.org. SRV", "NOERROR aa" + soa},
		{"fallback nxdomain", "-----", "_http._tcp.www.example.org. SRV", "NXDOMAIN aa" + soa},
		{"fallback servfail", "-----", "_http._tcp.www.example.org. SRV", "SERVFAIL"},
		{"fallback next", "-----", "_http._tcp.www.example.org. SRV", "SERVFAIL unwritten: plugin/failover: no next plugin found"},
		{"fallback 203.0.113.1 ::1", "-----", "_http._tcp.www.example.org. SRV", "NOERROR aa _http._tcp.www.example.org. 7 SRV 0 1 443 203-0-113-1.www.example.org., _http._tcp.www.example.org. 7 SRV 0 1 443 0--1.www.example.org. + 203-0-113-1.www.example.org. 7 A 203.0.113.1 + 0--1.www.example.org. 7 AAAA ::1"},

		{"", "+++++", "_SIP._udp.wEb.example.org. SRV", "NOERROR aa _SIP._udp.wEb.example.org. 7 SRV 0 1 443 fra.wEb.example.org., _SIP._udp.wEb.example.org. 7 SRV 0 1 443 2001-db8--1.wEb.example.org., _SIP._udp.wEb.example.org. 7 SRV 1 1 8443 192-0-2-2.wEb.example.org., _SIP._udp.wEb.example.org. 7 SRV 1 1 443 fra2.wEb.example.org., _SIP._udp.wEb.example.org. 7 SRV 2 1 443 192-0-2-4.wEb.example.org." +
			" + fra.wEb.example.org. 7 A 192.0.2.1 + 2001-db8--1.wEb.example.org. 7 AAAA 2001:db8::1 + 192-0-2-2.wEb.example.org. 7 A 192.0.2.2 + fra2.wEb.example.org. 7 A 192.0.2.3 + 192-0-2-4.wEb.example.org. 7 A 192.0.2.4"},
		{"", "---++", "_http._tcp.any.apps.example.org. SRV", "NOERROR aa _http._tcp.any.apps.example.org. 7 SRV 1 1 443 fra2.any.apps.example.org., _http._tcp.any.apps.example.org. 7 SRV 2 1 443 192-0-2-4.any.apps.example.org. + fra2.any.apps.example.org. 7 A 192.0.2.3 + 192-0-2-4.any.apps.example.org. 7 A 192.0.2.4"},
		{"", "----+", "_http._tcp.more.any.apps.example.org. SRV", "NOERROR aa _http._tcp.more.any.apps.example.org. 7 SRV 2 1 443 192-0-2-4.more.any.apps.example.org. + 192-0-2-4.more.any.apps.example.org. 7 A 192.0.2.4"},

		// The targets are there whatever their status.
		{"", "+++++", "fra.www.example.org. A", "NOERROR aa fra.www.example.org. 60 A 192.0.2.1"},
		{"fallback nxdomain", "-----", "Fra.www.example.org. ANY", "NOERROR aa Fra.www.example.org. 60 A 192.0.2.1"},
		{"", "+++++", "fra.www.example.org. AAAA", "NOERROR aa" + soa},
		{"", "+++++", "fra.www.example.org. SRV", "NOERROR aa" + soa},
		{"", "-----", "2001-db8--1.web.example.org. AAAA", "NOERROR aa 2001-db8--1.web.example.org. 60 AAAA 2001:db8::1"},
		{"", "-----", "2001-db8--1.web.example.org. ANY", "NOERROR aa 2001-db8--1.web.example.org. 60 AAAA 2001:db8::1"},
		{"", "-----", "fra2.any.apps.example.org. A", "NOERROR aa fra2.any.apps.example.org. 60 A 192.0.2.3"},
		{"", "-----", "fra2.any.apps.example.org. TXT", "NOERROR aa" + soa},
		{"", "----+", "fra2.apps.example.org. A", "NOERROR aa fra2.apps.example.org. 7 A 192.0.2.4"}, // one of the wildcard's

		{"", "+++++", "_http._tcp.www.example.org. A", "NOERROR aa" + soa},
		{"", "+++++", "_http._tcp.www.example.org. HTTPS", "NOERROR aa" + soa},
		{"", "+++++", "_tcp.www.example.org. SRV", "NOERROR aa" + soa},
		{"", "+++++", "_udp.www.example.org. ANY", "NOERROR aa" + soa},
		{"", "+++++", "_udp.any.apps.example.org. A", "NOERROR aa" + soa},
		{"", "+++++", "_http._tcp.any.apps.example.org. A", "NOERROR aa" + soa},
		{"", "+++++", "_imap._tcp.www.example.org. SRV", "NXDOMAIN aa" + soa},
		{"", "+++++", "_http._udp.www.example.org. SRV", "NXDOMAIN aa" + soa},
		{"", "+++++", "www.example.org. SRV", "NOERROR aa" + soa},
		{"", "+++++", "_http._tcp.example.org. SRV", "NXDOMAIN aa" + soa},

		{"", "+++++", "www.example.org. HTTPS", https + alpn + ` ipv4hint="192.0.2.1" ipv6hint="2001:db8::1", www.example.org. 7 HTTPS 2 192-0-2-2.www.example.org. ` + alpn + ` port="8443" ipv4hint="192.0.2.2", www.example.org. 7 HTTPS 2 fra2.www.example.org. ` + alpn + ` ipv4hint="192.0.2.3", www.example.org. 7 HTTPS 3 192-0-2-4.www.example.org. ` + alpn + ` ipv4hint="192.0.2.4" + www.example.org. 7 A 192.0.2.1 + www.example.org. 7 AAAA 2001:db8::1` + addsR},
		{"", "---++", "www.example.org. HTTPS", "NOERROR aa www.example.org. 7 HTTPS 2 . " + alpn + ` ipv4hint="192.0.2.3", www.example.org. 7 HTTPS 3 192-0-2-4.www.example.org. ` + alpn + ` ipv4hint="192.0.2.4" + www.example.org. 7 A 192.0.2.3 + 192-0-2-4.www.example.org. 7 A 192.0.2.4`},
		{"", "----+", "aNy.apps.example.org. HTTPS", "NOERROR aa aNy.apps.example.org. 7 HTTPS 3 . " + alpn + ` ipv4hint="192.0.2.4" + aNy.apps.example.org. 7 A 192.0.2.4`},
		{"fallback none", "-----", "www.example.org. HTTPS", "NOERROR aa" + soa},
		{"fallback 203.0.113.1 203.0.113.2\nanswer 1", "-----", "www.example.org. HTTPS", https + alpn + ` ipv4hint="203.0.113.1" + www.example.org. 7 A 203.0.113.1`},
		{"", "+++++", "www.example.org. SVCB", "NOERROR aa" + soa},
		{"", "+++++", "www.example.org. A", "NOERROR aa www.example.org. 7 A 192.0.2.1"},
	}
	for _, tc := range tests {
		f := serving(t, many+tc.more+"\n}", nil).turnFirst(tc.statuses)
		if got := ask(t, f, tc.question); got != tc.want {
			t.Errorf("%s %q, %s: got\n%s\nwant\n%s", tc.more, tc.statuses, tc.question, got, tc.want)
		}
	}
}

// The last set that worked keeps its tiers.
func TestServicesLast(t *testing.T) {
	f := serving(t, many+"fallback last\n}", nil).turnFirst("-----", 2, 3)
	want := "NOERROR aa _http._tcp.www.example.org. 7 SRV 1 1 8443 192-0-2-2.www.example.org., _http._tcp.www.example.org. 7 SRV 1 1 443 fra2.www.example.org. + 192-0-2-2.www.example.org. 7 A 192.0.2.2 + fra2.www.example.org. 7 A 192.0.2.3"
	if got := ask(t, f, "_http._tcp.www.example.org. SRV"); got != want {
		t.Errorf("Got %s, want %s", got, want)
	}
}

// A host has one target for both of its addresses, and one record where they share the port. Where members of one
// tier have several ports, each host has a target of its own.
func TestServicesShared(t *testing.T) {
	f := serving(t, "failover www.example.org a=192.0.2.1:443 A=[2001:db8::1]:443 b=192.0.2.2:80 b=[2001:db8::2]:81 {\nsrv http\nhttps\n}", nil)
	for question, want := range map[string]string{
		"_http._tcp.www.example.org. SRV": "NOERROR aa _http._tcp.www.example.org. 7 SRV 0 1 443 a.www.example.org., _http._tcp.www.example.org. 7 SRV 0 1 80 b.www.example.org., _http._tcp.www.example.org. 7 SRV 0 1 81 b.www.example.org." +
			" + a.www.example.org. 7 A 192.0.2.1 + a.www.example.org. 7 AAAA 2001:db8::1 + b.www.example.org. 7 A 192.0.2.2 + b.www.example.org. 7 AAAA 2001:db8::2",
		"a.www.example.org. A":    "NOERROR aa a.www.example.org. 60 A 192.0.2.1",
		"a.www.example.org. AAAA": "NOERROR aa a.www.example.org. 60 AAAA 2001:db8::1",
		"a.www.example.org. ANY":  "NOERROR aa a.www.example.org. 60 A 192.0.2.1",
		"www.example.org. HTTPS": `NOERROR aa www.example.org. 7 HTTPS 1 a.www.example.org. ipv4hint="192.0.2.1" ipv6hint="2001:db8::1", www.example.org. 7 HTTPS 1 b.www.example.org. port="80" ipv4hint="192.0.2.2", www.example.org. 7 HTTPS 1 b.www.example.org. port="81" ipv6hint="2001:db8::2"` +
			" + a.www.example.org. 7 A 192.0.2.1 + a.www.example.org. 7 AAAA 2001:db8::1 + b.www.example.org. 7 A 192.0.2.2 + b.www.example.org. 7 AAAA 2001:db8::2",
	} {
		if got := ask(t, f, question); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", question, got, want)
		}
	}
}

// What comes with an HTTPS record is no more than an answer gives, also where the order turns.
func TestBindingsFront(t *testing.T) {
	f := serving(t, "failover www.example.org 192.0.2.1:443 192.0.2.2:443 {\norder cyclic\nanswer 1\nhttps\n}", nil)
	want := `NOERROR aa www.example.org. 7 HTTPS 1 . ipv4hint="192.0.2.1" + www.example.org. 7 A 192.0.2.1`
	for range 3 {
		if got := ask(t, f, "www.example.org. HTTPS"); got != want {
			t.Errorf("Got %s, want %s", got, want)
		}
	}
}

// All records of HTTPS can be packed, and are the same when they are unpacked.
func TestBindingsOnTheWire(t *testing.T) {
	f := serving(t, many+"}", nil)
	w := new(written)
	if _, err := f.ServeDNS(context.Background(), w, query(t, "www.example.org. HTTPS")); err != nil {
		t.Fatal(err)
	}
	wire, err := w.msgs[0].Pack()
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil || words(m) != words(w.msgs[0]) {
		t.Errorf("Unpacked\n%s\nwant\n%s\n%v", words(m), words(w.msgs[0]), err)
	}
}
