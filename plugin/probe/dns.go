package probe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// maxUDP is the longest reply over UDP, in bytes. Without EDNS it is 512; some say more all the same.
const maxUDP = 4096

// query asks a name server for the records of a name, over UDP, and again over TCP where the reply is
// truncated. It looks at the reply's code and, if so told, at the data of its answers.
type query struct {
	name   string // absolute, in lower case, as miekg/dns writes it
	qtype  uint16
	rcode  int
	answer *regexp.Regexp // nil: whatever
}

func parseDNS(l line) (Prober, error) {
	p := &query{qtype: dns.TypeA, rcode: dns.RcodeSuccess}
	if err := l.hostless("dns://:PORT/NAME or dns:///NAME"); err != nil {
		return nil, err
	}
	if err := p.about(l); err != nil {
		return nil, err
	}
	return p, l.read(map[string]option{
		"answer": pattern("answer", &p.answer),
		"rcode": {takes: []string{"R"}, set: func(args []string) error {
			rcode, found := dns.StringToRcode[strings.ToUpper(args[0])]
			if !found || rcode > 0xf { // the others are not to be had without EDNS
				return fmt.Errorf("rcode %q, want one such as NOERROR or REFUSED", args[0])
			}
			p.rcode = rcode
			return nil
		}},
	})
}

// about reads name and type of the question from the URL.
func (p *query) about(l line) error {
	name := strings.TrimPrefix(l.url.Path, "/")
	if name == "" {
		name = l.name
	}
	if name == "" {
		return fmt.Errorf("no name in URL %q, and a wildcard is none, want one as in dns:///www.example.org", l.word)
	}
	var err error
	if p.name, err = canonical(name); err != nil {
		return fmt.Errorf("%q cannot be a name to ask for, want labels of 1 to 63 letters, and 255 in all", name)
	}
	if l.url.RawQuery == "" && !l.url.ForceQuery {
		return nil
	}
	word, found := strings.CutPrefix(l.url.RawQuery, "type=")
	if !found {
		return fmt.Errorf("query %q in URL %q, want one such as ?type=AAAA", l.url.RawQuery, l.word)
	}
	if word, err = url.QueryUnescape(word); err != nil {
		return fmt.Errorf("query %q in URL %q: %w", l.url.RawQuery, l.word, err)
	}
	if p.qtype = dns.StringToType[strings.ToUpper(word)]; p.qtype == dns.TypeANY {
		return nil
	}
	if p.qtype == dns.TypeNone || p.qtype == dns.TypeOPT || p.qtype>>7 == 1 { // 128-255 are no records (RFC 6895)
		return fmt.Errorf("type %q in URL %q, want one such as A, AAAA or SOA", word, l.word)
	}
	return nil
}

// canonical is the one way of writing a name, absolute and in lower case.
func canonical(name string) (string, error) {
	wire := make([]byte, 255)
	n, err := dns.PackDomainName(dns.CanonicalName(name), wire, 0, nil, false)
	if err != nil {
		return "", err
	}
	name, _, err = dns.UnpackDomainName(wire[:n], 0)
	return name, err
}

func (p *query) Kind() string { return "dns" }

func (p *query) String() string {
	s := "dns:///" + p.name + "?type=" + dns.Type(p.qtype).String() + " rcode " + rcodeName(p.rcode)
	if p.answer != nil {
		s += fmt.Sprintf(" answer %q", p.answer)
	}
	return s
}

func rcodeName(rcode int) string {
	if name, found := dns.RcodeToString[rcode]; found {
		return name
	}
	return strconv.Itoa(rcode)
}

func (p *query) Probe(ctx context.Context, target netip.AddrPort) error {
	reply, err := p.datagram(ctx, target)
	if err != nil {
		return err
	}
	if reply.Truncated {
		if reply, err = p.stream(ctx, target); err != nil {
			return fmt.Errorf("truncated reply, and over TCP: %w", err)
		}
	}
	return p.judge(reply)
}

// compose is a message that has not been sent before: its ID and the case of the letters in its
// question (0x20) are what another host cannot guess.
func (p *query) compose() (*dns.Msg, []byte, error) {
	random := make([]byte, 2+len(p.name))
	rand.Read(random) // never fails
	name := []byte(p.name)
	for i, b := range name {
		if 'a' <= b && b <= 'z' {
			name[i] = b ^ random[2+i]&0x20
		}
	}
	m := new(dns.Msg).SetQuestion(string(name), p.qtype)
	m.Id = binary.BigEndian.Uint16(random)
	wire, err := m.Pack()
	return m, wire, err
}

// datagram asks over UDP. What is no reply to the question may be somebody else's, or come late to an
// earlier one: it is ignored.
func (p *query) datagram(ctx context.Context, target netip.AddrPort) (*dns.Msg, error) {
	asked, wire, err := p.compose()
	if err != nil {
		return nil, err
	}
	if err := dialable(target); err != nil {
		return nil, err
	}
	c, err := dialer.DialUDP(ctx, "udp", netip.AddrPort{}, target)
	if err != nil {
		return nil, plain(ctx, connecting, err)
	}
	defer c.Close()
	defer endWith(ctx, c)()
	if _, err := c.Write(wire); err != nil {
		return nil, plain(ctx, sending, err)
	}
	got := make([]byte, maxUDP)
	for ignored, why := 0, error(nil); ; ignored++ {
		n, err := c.Read(got)
		if err != nil {
			err = plain(ctx, reading, err)
			if ignored > 0 {
				err = fmt.Errorf("%w: ignored %d, the last a %w", err, ignored, why)
			}
			return nil, err
		}
		reply, err := read(asked, got[:n])
		if reply != nil {
			return reply, err
		}
		why = err
	}
}

// stream asks over TCP.
func (p *query) stream(ctx context.Context, target netip.AddrPort) (*dns.Msg, error) {
	asked, wire, err := p.compose()
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx, target)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	wire = append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...) // #nosec G115 -- a question is short
	if _, err := c.Write(wire); err != nil {
		return nil, plain(ctx, sending, err)
	}
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return nil, plain(ctx, reading, err)
	}
	got := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, got); err != nil {
		return nil, plain(ctx, reading, err)
	}
	return read(asked, got)
}

// read makes of wire the reply to what was asked. It is nil, and the error says why, if it is none. A
// reply that is one, and cannot be read to its end, comes with an error.
func read(asked *dns.Msg, wire []byte) (*dns.Msg, error) {
	reply := new(dns.Msg)
	err := reply.Unpack(wire) // what it could read before an error is there
	switch {
	case len(wire) < 12 || !reply.Response || reply.Opcode != dns.OpcodeQuery:
		return nil, errors.New("message that is no reply")
	case reply.Id != asked.Id:
		return nil, errors.New("reply with another ID")
	case len(reply.Question) != 1:
		return nil, fmt.Errorf("reply with %d questions", len(reply.Question))
	case reply.Question[0] != asked.Question[0]:
		return nil, errors.New("reply to another question")
	case err != nil:
		return reply, fmt.Errorf("malformed reply: %w", err)
	}
	return reply, nil
}

func (p *query) judge(reply *dns.Msg) error {
	if reply.Rcode != p.rcode {
		return fmt.Errorf("rcode %s, want %s", rcodeName(reply.Rcode), rcodeName(p.rcode))
	}
	if p.answer == nil {
		return nil
	}
	first := "no answer"
	for i, rr := range reply.Answer {
		data := strings.TrimPrefix(rr.String(), rr.Header().String())
		if p.answer.MatchString(data) {
			return nil
		}
		if i == 0 {
			first = "answer " + quote([]byte(data))
		}
	}
	if n := len(reply.Answer) - 1; n > 0 {
		first += " and " + strconv.Itoa(n) + " more"
	}
	return fmt.Errorf("%s, want match for %q", first, p.answer)
}
