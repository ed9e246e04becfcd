package probe

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A nameserver answers over UDP with the messages that its first function makes of a query, in turn,
// and over TCP with what the second writes.
func nameserver(t testing.TB, address string, udp func(*dns.Msg) [][]byte, tcp func(net.Conn, *dns.Msg)) netip.AddrPort {
	t.Helper()
	serveTCP := func(c net.Conn) {
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint16(length[:]))
		m := new(dns.Msg)
		if _, err := io.ReadFull(c, b); err == nil && m.Unpack(b) == nil && tcp != nil {
			tcp(c, m)
		}
	}
	var (
		target netip.AddrPort
		c      *net.UDPConn
		err    error
	)
	for range 10 { // somebody else may have it over UDP, by chance
		target = serve(t, address, serveTCP)
		if c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(target)); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 1024)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			m := new(dns.Msg)
			if m.Unpack(b[:n]) != nil {
				continue
			}
			for _, reply := range udp(m) {
				c.WriteToUDPAddrPort(reply, from)
			}
		}
	})
	t.Cleanup(func() {
		c.Close()
		wg.Wait()
	})
	return target
}

// replies is a reply with a code and answers.
func replies(m *dns.Msg, rcode int, records ...string) *dns.Msg {
	r := new(dns.Msg).SetRcode(m, rcode)
	for _, record := range records {
		rr, err := dns.NewRR(m.Question[0].Name + " 60 IN " + record)
		if err != nil {
			panic(err)
		}
		r.Answer = append(r.Answer, rr)
	}
	return r
}

func packed(m *dns.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// noerror replies with nothing, truncated with less than that.
func noerror(m *dns.Msg) [][]byte { return [][]byte{packed(replies(m, dns.RcodeSuccess))} }

func truncated(m *dns.Msg) [][]byte {
	r := replies(m, dns.RcodeSuccess)
	r.Truncated = true
	return [][]byte{packed(r)}
}

// tells writes a reply to a query over TCP.
func tells(c net.Conn, b []byte) {
	c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
}

func TestDNS(t *testing.T) {
	// with replies with what is left of a good reply.
	with := func(rcode int, records ...string) func(*dns.Msg) [][]byte {
		return func(m *dns.Msg) [][]byte { return [][]byte{packed(replies(m, rcode, records...))} }
	}
	good := with(dns.RcodeSuccess, "A 192.0.2.1")
	// wrong replies with one that something is wrong with, and then with the good one if there is time.
	wrong := func(spoil func(*dns.Msg), more bool) func(*dns.Msg) [][]byte {
		return func(m *dns.Msg) [][]byte {
			r := replies(m, dns.RcodeServerFailure)
			spoil(r)
			all := [][]byte{packed(r)}
			if more {
				all = append(all, packed(replies(m, dns.RcodeSuccess, "A 192.0.2.1")))
			}
			return all
		}
	}
	raw := func(make func(wire []byte) []byte) func(*dns.Msg) [][]byte {
		return func(m *dns.Msg) [][]byte { return [][]byte{make(packed(replies(m, dns.RcodeSuccess, "A 192.0.2.1")))} }
	}
	otherID := func(m *dns.Msg) { m.Id++ }
	otherCase := func(m *dns.Msg) { m.Question[0].Name = strings.ToLower(m.Question[0].Name) }
	overTCP := func(rcode int, records ...string) func(net.Conn, *dns.Msg) {
		return func(c net.Conn, m *dns.Msg) { tells(c, packed(replies(m, rcode, records...))) }
	}
	long := []string{}
	for range 250 {
		long = append(long, `TXT "`+strings.Repeat("a", 200)+`"`)
	}
	const name = "AVeryLongNameSoThatTheCaseOfItsLettersIsNotByChanceAllLower.example.org"
	tests := map[string]struct {
		words string
		udp   func(*dns.Msg) [][]byte
		tcp   func(net.Conn, *dns.Msg)
		want  string
	}{
		"good":                 {"dns://", good, nil, ""},
		"no data":              {"dns:///b.example.org?type=MX", with(dns.RcodeSuccess), nil, ""},
		"refused as it should": {"dns:///. rcode refused", with(dns.RcodeRefused), nil, ""},
		"right answer":         {`dns:// answer ^192\.0\.2\.1$`, with(dns.RcodeSuccess, "A 192.0.2.9", "A 192.0.2.1"), nil, ""},
		"right text":           {`dns:///x?type=txt answer "ok"`, with(dns.RcodeSuccess, "TXT ok"), nil, ""},
		"right alias":          {`dns:// answer ^a\.example\.$`, with(dns.RcodeSuccess, "CNAME a.example."), nil, ""},
		"others first":         {"dns://", wrong(otherID, true), nil, ""},
		"other case first":     {"dns:///" + name, wrong(otherCase, true), nil, ""},
		"garbage first": {"dns://", func(m *dns.Msg) [][]byte { return append([][]byte{{}, []byte("hello"), packed(m)}, good(m)...) },
			nil, ""},
		"truncated":       {"dns:// answer ^192", truncated, overTCP(dns.RcodeSuccess, "A 192.0.2.1"), ""},
		"truncated, long": {"dns://?type=TXT answer aaa", truncated, overTCP(dns.RcodeSuccess, long...), ""},

		"refused":      {"dns://", with(dns.RcodeRefused), nil, "rcode REFUSED, want NOERROR"},
		"not refused":  {"dns:// rcode REFUSED", good, nil, "rcode NOERROR, want REFUSED"},
		"odd":          {"dns://", with(13), nil, "rcode 13, want NOERROR"},
		"no answer":    {"dns:// answer .", with(dns.RcodeSuccess), nil, `no answer, want match for "."`},
		"wrong answer": {"dns:// answer ^127", good, nil, `answer "192.0.2.1", want match for "^127"`},
		"wrong answers": {"dns:// answer ^127", with(dns.RcodeSuccess, "A 192.0.2.1", "A 192.0.2.2", "A 192.0.2.3"), nil,
			`answer "192.0.2.1" and 2 more, want match for "^127"`},
		"silent":           {"dns://", func(*dns.Msg) [][]byte { return nil }, nil, "timeout while reading"},
		"other ID":         {"dns://", wrong(otherID, false), nil, "timeout while reading: ignored 1, the last a reply with another ID"},
		"other case":       {"dns:///" + name, wrong(otherCase, false), nil, "timeout while reading: ignored 1, the last a reply to another question"},
		"other type":       {"dns://", wrong(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA }, false), nil, "timeout while reading: ignored 1, the last a reply to another question"},
		"no question":      {"dns://", wrong(func(m *dns.Msg) { m.Question = nil }, false), nil, "timeout while reading: ignored 1, the last a reply with 0 questions"},
		"echo":             {"dns://", func(m *dns.Msg) [][]byte { return [][]byte{packed(m), packed(m)} }, nil, "timeout while reading: ignored 2, the last a message that is no reply"},
		"garbage":          {"dns://", func(*dns.Msg) [][]byte { return [][]byte{[]byte("220 hello")} }, nil, "timeout while reading: ignored 1, the last a message that is no reply"},
		"cut":              {"dns://", raw(func(b []byte) []byte { return b[:len(b)-2] }), nil, "malformed reply: ..."},
		"too long for UDP": {"dns:///?type=TXT", with(dns.RcodeSuccess, long[:50]...), nil, "malformed reply: ..."},

		"truncated, refused":      {"dns://", truncated, overTCP(dns.RcodeRefused), "rcode REFUSED, want NOERROR"},
		"truncated, then nothing": {"dns://", truncated, func(c net.Conn, _ *dns.Msg) { silent(c) }, "truncated reply, and over TCP: timeout while reading"},
		"truncated, then the end": {"dns://", truncated, nil, "truncated reply, and over TCP: connection closed while reading"},
		"truncated, then half": {"dns://", truncated, func(c net.Conn, _ *dns.Msg) { io.WriteString(c, "\xff\xffhalf") },
			"truncated reply, and over TCP: connection closed while reading"},
		"truncated, then garbage": {"dns://", truncated, func(c net.Conn, _ *dns.Msg) { tells(c, []byte("garbage")) },
			"truncated reply, and over TCP: message that is no reply"},
		"truncated, then other": {"dns://", truncated, func(c net.Conn, m *dns.Msg) { m.Id++; overTCP(dns.RcodeSuccess)(c, m) },
			"truncated reply, and over TCP: reply with another ID"},
		"truncated, then slow": {"dns://", truncated, func(c net.Conn, _ *dns.Msg) { drips("\xff")(c) },
			"truncated reply, and over TCP: timeout while reading"},
	}
	for test, tc := range tests {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			timeout := soon
			if strings.Contains(tc.want, "timeout") {
				timeout = brief
			}
			for _, address := range loopback {
				target := nameserver(t, address, tc.udp, tc.tcp)
				wantError(t, ask(t, mustParse(t, strings.Fields(tc.words)...), target, timeout), tc.want)
			}
		})
	}
}

// What is asked: the name and the type of the URL, in letters of any case, and never the same twice.
func TestDNSQuestion(t *testing.T) {
	asked := make(chan *dns.Msg, 1)
	target := nameserver(t, "127.0.0.1:0", func(m *dns.Msg) [][]byte {
		asked <- m
		return [][]byte{packed(replies(m, dns.RcodeSuccess))}
	}, nil)
	for url, want := range map[string]string{
		"dns://":                            "www.example.org. A",
		"dns:///":                           "www.example.org. A",
		"dns:///.":                          ". A",
		"dns:///Health.Example.org.?type=a": "health.example.org. A",
		"dns:///0/25.2.0.192.in-addr.arpa?type=PTR": "0/25.2.0.192.in-addr.arpa. PTR",
		`dns:///a%20b%5c.c?type=CAA`:                `a\ b\.c. CAA`,
	} {
		seen := map[string]bool{}
		for range 20 {
			wantError(t, ask(t, mustParse(t, url), target, soon), "")
			m := <-asked
			q := m.Question[0]
			if got := strings.ToLower(q.Name) + " " + dns.Type(q.Qtype).String(); got != want || q.Qclass != dns.ClassINET || !m.RecursionDesired || m.IsEdns0() != nil {
				t.Errorf("%s: asked\n%v, want %s", url, m, want)
			}
			seen[q.Name] = true
		}
		if len(want) > 10 && len(seen) < 5 {
			t.Errorf("%s: asked in the letters %v, want other ones each time", url, seen)
		}
	}
}

func TestDNSClosed(t *testing.T) {
	for family, address := range loopback {
		t.Run(family, func(t *testing.T) {
			wantError(t, ask(t, mustParse(t, "dns://"), closedPort(t, address), soon), "connection refused while reading")
		})
	}
}

func TestDNSCancel(t *testing.T) {
	target := nameserver(t, "127.0.0.1:0", func(*dns.Msg) [][]byte { return nil }, nil)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	wantError(t, mustParse(t, "dns://").Probe(ctx, target), "canceled while reading")
	wantError(t, mustParse(t, "dns://").Probe(ctx, target), "canceled while connecting")
	wantError(t, ask(t, mustParse(t, "dns://"), netip.MustParseAddrPort("127.0.0.1:0"), soon), "cannot dial 127.0.0.1:0, want an address and a port")
}

// A reply from another address or port than was asked never gets through.
func TestDNSSpoofed(t *testing.T) {
	spoofer, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer spoofer.Close()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 512)
		n, from, err := c.ReadFrom(b)
		m := new(dns.Msg)
		if err == nil && m.Unpack(b[:n]) == nil {
			spoofer.WriteTo(packed(replies(m, dns.RcodeServerFailure)), from)
			time.Sleep(brief / 2)
			c.WriteTo(packed(replies(m, dns.RcodeSuccess)), from)
		}
	}()
	wantError(t, ask(t, mustParse(t, "dns://"), c.LocalAddr().(*net.UDPAddr).AddrPort(), soon), "")
	<-done
}

func BenchmarkDNS(b *testing.B) {
	benchmark(b, nameserver(b, "127.0.0.1:0", noerror, nil), "dns://")
}
