package test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// repeats is how often a query is asked to see that the answer does not change.
const repeats = 200

// from are n addresses of which none is at its sorted place, counted down and up from a first one.
func from(first string, n int) []string {
	addr := netip.MustParseAddr(first)
	addrs := make([]string, n)
	for i := range addrs {
		at := i / 2
		if i%2 == 0 {
			at = n - 1 - i/2
		}
		addrs[at] = addr.String()
		addr = addr.Next()
	}
	return addrs
}

// connection is a connection on which wire bytes are compared.
func connection(t testing.TB, s *server, network string) *dns.Conn {
	t.Helper()
	addr := s.udp()
	if network == "tcp" {
		addr = s.tcp()
	}
	conn, err := dns.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.UDPSize = dns.MaxMsgSize
	t.Cleanup(func() { conn.Close() })
	return conn
}

// wire is the answer to a query as it was on the wire, without the ID.
func wire(t testing.TB, conn *dns.Conn, m *dns.Msg) []byte {
	t.Helper()
	m.Id = dns.Id()
	if err := conn.WriteMsg(m); err != nil {
		t.Fatalf("No query for %s: %v", title(m), err)
	}
	answer, err := conn.ReadMsgHeader(nil)
	if err != nil {
		t.Fatalf("No answer to %s: %v", title(m), err)
	}
	if id := uint16(answer[0])<<8 | uint16(answer[1]); id != m.Id {
		t.Fatalf("The answer to %s has the ID %d, want %d", title(m), id, m.Id)
	}
	return answer[2:]
}

// unpack is the message of wire.
func unpack(t testing.TB, answer []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(append([]byte{0, 0}, answer...)); err != nil {
		t.Fatal(err)
	}
	return m
}

// Every answer of one state of the members is byte for byte the same, however many there are.
func TestFixedOrder(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 25, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			v4 := from("127.0.1.1", n)
			var all []string
			for _, h := range members(t, v4...) {
				all = append(all, h.addr)
			}
			v6 := from("2001:db8::1", n) // nobody listens there: in fallback they are not probed
			s := start(t, block(
				"failover www.example.org "+strings.Join(all, " "),
				downPool(t, "six.example.org", "fallback "+strings.Join(v6, " "))))
			sameOrder(t, s, "www.example.org.", dns.TypeA, v4)
			sameOrder(t, s, "six.example.org.", dns.TypeAAAA, v6)
		})
	}
}

// sameOrder asks again and again over UDP and TCP.
func sameOrder(t *testing.T, s *server, name string, qtype uint16, want []string) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		conn := connection(t, s, network)
		query := question(name, qtype).SetEdns0(4096, false)
		first := wire(t, conn, query)
		m := unpack(t, first)
		wantAddresses(t, m, want...)
		if m.Truncated {
			t.Errorf("The answer to %s over %s is truncated", title(m), network)
		}
		for range repeats {
			if next := wire(t, conn, query); !bytes.Equal(first, next) {
				t.Fatalf("The answer over %s has changed from\n%v\nto\n%v", network, m, unpack(t, next))
			}
		}
	}
}

// What fits into an answer is the front of the order, and TC says that there is more, which TCP has.
func TestTruncation(t *testing.T) {
	v4, v6 := from("127.0.1.1", 100), from("2001:db8::1", 100)
	var all []string
	for _, h := range members(t, v4...) {
		all = append(all, h.addr)
	}
	s := start(t, block(
		"failover www.example.org "+strings.Join(all, " "),
		downPool(t, "six.example.org", "fallback "+strings.Join(v6, " "))))
	for _, tc := range []struct {
		name  string
		qtype uint16
		want  []string
		size  int // of a record, with its owner compressed
	}{
		{"www.example.org.", dns.TypeA, v4, 16},
		{"six.example.org.", dns.TypeAAAA, v6, 28},
	} {
		for _, size := range []uint16{0, 511, 512, 1232, 4096} {
			query := question(tc.name, tc.qtype)
			if size > 0 {
				query.SetEdns0(size, false)
			}
			answer := wire(t, connection(t, s, "udp"), query)
			m, length, limit := unpack(t, answer), len(answer)+2, max(int(size), 512)
			if whole := len(m.Answer) == len(tc.want); length > limit || m.Truncated == whole || !whole && length+tc.size <= limit {
				t.Errorf("The answer to %s has %d bytes with %d addresses and TC %t, want what fits into %d", title(m), length, len(m.Answer), m.Truncated, limit)
			}
			wantAddresses(t, m, tc.want[:len(m.Answer)]...)
			if (m.IsEdns0() != nil) != (size > 0) {
				t.Errorf("The OPT record of the answer is %v, the one asked with has size %d", m.IsEdns0(), size)
			}
			m = exchange(t, s.tcp(), "tcp", query)
			wantAddresses(t, m, tc.want...)
			if m.Truncated {
				t.Errorf("The answer to %s over TCP is truncated", title(m))
			}
		}
	}
}

// The order stays when members leave, and when they return they are where they were.
func TestOrderOfTheRest(t *testing.T) {
	lines := record(t)
	hosts := members(t, from("127.0.1.1", 4)...)
	s := start(t, block(fmt.Sprintf("failover www.example.org %s %s %s %s", hosts[0], hosts[1], hosts[2], hosts[3]),
		"failover {\n interval 400ms\n recheck 20ms\n}"))
	want := from("127.0.1.1", 4)
	for _, i := range []int{0, 2} {
		hosts[i].stop()
		eventually(t, bound, "a member is down", func() bool { return len(lines(hosts[i].addr+": up -> down")) == 1 })
	}
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), want[1], want[3])
	hosts[2].start()
	eventually(t, bound, "a member is up again", func() bool { return len(lines(hosts[2].addr+": down -> up")) == 1 })
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), want[1], want[2], want[3])
	hosts[0].start()
	eventually(t, bound, "a member is up again", func() bool { return len(lines(hosts[0].addr+": down -> up")) == 1 })
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), want...)
}
