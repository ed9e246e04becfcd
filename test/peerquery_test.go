package test

import (
	"math/rand/v2"
	"strings"

	"github.com/miekg/dns"
)

// asker makes up queries, the same ones every time.
type asker struct {
	*rand.Rand
	names []string // that exist
}

func newAsker(seed uint64, names []string) *asker {
	return &asker{rand.New(rand.NewPCG(seed, seed)), names}
}

// pick returns one of several.
func pick[T any](a *asker, of ...T) T { return of[a.IntN(len(of))] }

// query is a query and what it is sent over.
func (a *asker) query() (m *dns.Msg, network string) {
	m = question(a.cased(a.name()), a.qtype())
	m.Id = uint16(a.Uint32())
	m.RecursionDesired = a.IntN(2) == 0
	m.CheckingDisabled = a.IntN(4) == 0
	m.AuthenticatedData = a.IntN(4) == 0
	if a.IntN(5) > 1 {
		m.SetEdns0(pick[uint16](a, 0, 511, 512, 1232, 4096, 65535), a.IntN(3) == 0)
		opt := m.IsEdns0()
		switch a.IntN(12) {
		case 0:
			opt.SetVersion(uint8(1 + a.IntN(255)))
		case 1:
			opt.Option = append(opt.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
		case 2:
			opt.Option = append(opt.Option, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte("unknown")})
		}
	}
	return m, pick(a, "udp", "udp", "udp", "tcp")
}

// qtype is mostly one of those that somebody asks for.
func (a *asker) qtype() uint16 {
	if a.IntN(3) == 0 {
		return pick(a, dns.TypeA, dns.TypeAAAA)
	}
	return pick(a, dns.TypeTXT, dns.TypeMX, dns.TypeSOA, dns.TypeNS, dns.TypeSRV, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeCAA,
		dns.TypeANY, dns.TypeANY, dns.TypeDS, dns.TypeDNSKEY, dns.TypeCNAME, dns.TypeDNAME, dns.TypePTR, dns.TypeLOC, dns.TypeTLSA, 65280)
}

// name is one that exists, or one beside it, above it or below it.
func (a *asker) name() string {
	name := pick(a, a.names...)
	switch a.IntN(12) {
	default:
	case 0, 1, 2:
		name = a.label() + name
	case 3:
		name = a.label() + a.label() + name
	case 4, 5:
		name = above(name)
	case 6, 7:
		name = a.label() + above(name)
	case 8:
		name = pick(a, "example.net.", "org.", "myexample.org.", ".", "www.example.org.example.net.")
	}
	return name
}

// label is one that may or may not exist.
func (a *asker) label() string {
	return pick(a, "*", "absent", "www", "_tcp", "_http._tcp", "xn--bcher-kva", "a-b", "-", "0", `\000`, `a\.b`, `\*`, "host", "x",
		strings.Repeat("l", 63)) + "."
}

// above is a name without its first label.
func above(name string) string {
	if off, end := dns.NextLabel(name, 0); !end {
		return name[off:]
	}
	return "."
}

// cased is a name in mixed case, as of a resolver that uses its letters to tell answers apart.
func (a *asker) cased(name string) string {
	if a.IntN(2) == 0 {
		return name
	}
	letters := []byte(name)
	for i, c := range letters {
		if a.IntN(2) == 0 && 'a' <= c && c <= 'z' {
			letters[i] = c - 'a' + 'A'
		}
	}
	return string(letters)
}
