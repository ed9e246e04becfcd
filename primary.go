package failover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// exchangeTimeout is how long a server may take for one message, with the connection. It is as much as a server
// under load needs to write its journal to a disk.
const exchangeTimeout = 5 * time.Second

// exchange sends a message to the server over TCP, signed where there is a key, and returns what it answers. Where a
// signature is not as it should be there is an error beside the answer.
func (u *update) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.server.String())
	if err != nil {
		return nil, orEnded(ctx, err)
	}
	defer conn.Close()
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) // thousands of names must not leave thousands of sockets behind
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c := &dns.Conn{Conn: conn}
	if u.key != "" {
		m.SetTsig(u.key, u.algorithm, 300, time.Now().Unix())
		c.TsigSecret = map[string]string{u.key: u.secret}
	}
	if err := c.WriteMsg(m); err != nil {
		return nil, orEnded(ctx, err)
	}
	r, err := c.ReadMsg()
	if err == nil && (r.Id != m.Id || !r.Response || r.Opcode != m.Opcode) {
		return nil, errors.New("the answer is to another message")
	}
	return r, orEnded(ctx, err)
}

// orEnded is err without what the log says anyway, or that the context has ended, which is where the error of its
// connection comes from.
func orEnded(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no answer within %s", short(exchangeTimeout))
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return number
	}
	return err
}

// trouble is why a message has not done what it was for.
type trouble struct {
	result string // in metrics
	why    string
	whole  bool // it is the server's, or the zone's, and not that of one name
}

// troubleOf judges an answer, or that there is none. signed says whether the message was. No trouble is in the codes
// that say whether a prerequisite is met.
func troubleOf(r *dns.Msg, err error, signed bool) *trouble {
	if r == nil {
		return &trouble{"unreachable", err.Error(), true}
	}
	tsig := r.IsTsig()
	if r.Rcode == dns.RcodeNotAuth {
		if tsig != nil {
			switch tsig.Error {
			case dns.RcodeBadKey:
				return &trouble{"badkey", "NOTAUTH (BADKEY): the server does not know the key, or not with this algorithm", true}
			case dns.RcodeBadSig:
				return &trouble{"badsig", "NOTAUTH (BADSIG): the server has another secret for the key", true}
			case dns.RcodeBadTime:
				return &trouble{"badtime", "NOTAUTH (BADTIME): its clock and ours are more than five minutes apart", true}
			}
		}
		return &trouble{"notauth", "NOTAUTH: the server is not the primary of the zone", true}
	}
	switch {
	case errors.Is(err, dns.ErrTime):
		return &trouble{"badtime", "the answer is signed at a time that is not ours", true}
	case errors.Is(err, dns.ErrSig), errors.Is(err, dns.ErrSecret), errors.Is(err, dns.ErrKeyAlg):
		return &trouble{"badsig", "the signature of the answer is wrong", true}
	case err != nil:
		return &trouble{"unreachable", err.Error(), true}
	}
	switch r.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeYXDomain, dns.RcodeYXRrset, dns.RcodeNXRrset:
		if signed && tsig == nil {
			return &trouble{"unsigned", "the answer is not signed", true}
		}
		return nil
	case dns.RcodeRefused:
		return &trouble{"refused", "REFUSED: the server does not allow it", false}
	case dns.RcodeServerFailure:
		return &trouble{"servfail", "SERVFAIL", true}
	case dns.RcodeNotZone:
		return &trouble{"notzone", "NOTZONE: the zone of the server does not have the name", true}
	case dns.RcodeNotImplemented:
		return &trouble{"notimp", "NOTIMP: the server does not take updates", true}
	}
	return &trouble{"other", "the server says " + dns.RcodeToString[r.Rcode], false}
}

// set is the owner and the type of records that a message speaks of without their data.
func set(owner string, t uint16) []dns.RR {
	return []dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: owner, Rrtype: t}}}
}

// markerTTL is short: what is in a cache is out of date when it counts, and nobody but us asks.
const markerTTL = 60

// markerRR is a marker with a text.
func markerRR(name, text string) dns.RR {
	return &dns.TXT{Hdr: dns.RR_Header{Name: markerOf(name), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: markerTTL}, Txt: []string{text}}
}

// types are those of the content, in order.
func (c *content) types() []uint16 { return slices.Sorted(maps.Keys(c.sets)) }

// begin is an UPDATE that does nothing, if a name has no alias: a server ignores records beside one without a word
// (RFC 2136, section 3.4.2.2).
func (u *update) begin(name string) *dns.Msg {
	m := new(dns.Msg).SetUpdate(u.zone)
	m.RRsetNotUsed(set(name, dns.TypeCNAME))
	return m
}

// verify is an UPDATE that does nothing, if a name has this content and a marker with this text. Prerequisites are
// exact, and see no wildcard where a query would.
func (u *update) verify(name, marker string, c *content) *dns.Msg {
	m := u.begin(name)
	m.Used([]dns.RR{markerRR(name, marker)})
	for _, t := range c.types() {
		if len(c.sets[t]) == 0 {
			m.RRsetNotUsed(set(name, t))
		}
		for _, rr := range c.sets[t] {
			m.Used([]dns.RR{dns.Copy(rr)})
		}
	}
	return m
}

// create is an UPDATE that gives a name its content, if it has none of these types and no marker.
func (u *update) create(name string, c *content) *dns.Msg {
	m := u.begin(name)
	m.RRsetNotUsed(set(markerOf(name), dns.TypeTXT))
	for _, t := range c.types() {
		m.RRsetNotUsed(set(name, t))
		m.Ns = append(m.Ns, c.sets[t]...)
	}
	m.Ns = append(m.Ns, markerRR(name, c.marker()))
	return m
}

// replace is an UPDATE that gives a name its content, if its marker has this text.
func (u *update) replace(name, marker string, c *content) *dns.Msg {
	m := u.begin(name)
	m.Used([]dns.RR{markerRR(name, marker)})
	for _, t := range c.types() {
		m.RemoveRRset(set(name, t))
		m.Ns = append(m.Ns, c.sets[t]...)
	}
	m.RemoveRRset(set(markerOf(name), dns.TypeTXT))
	m.Ns = append(m.Ns, markerRR(name, c.marker()))
	return m
}

// queryFor is a query for records at the primary.
func queryFor(name string, t uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, t)
	m.RecursionDesired = false
	return m
}

// held is what a server has for a name, as queries see it.
type held struct {
	content
	marker string // its text; "": none of ours
	alias  bool
	texts  bool // there is a TXT record in the marker's place
}

// read adds the answer to a query for the marker.
func (h *held) readMarker(r *dns.Msg, owner string) {
	var texts []*dns.TXT
	for _, rr := range r.Answer {
		if txt, ok := rr.(*dns.TXT); ok && strings.EqualFold(txt.Hdr.Name, owner) {
			texts = append(texts, txt)
		}
	}
	h.texts = len(texts) > 0
	if len(texts) != 1 || len(texts[0].Txt) != 1 {
		return
	}
	if _, fallback, ok := readMarker(texts[0].Txt[0]); ok {
		h.marker, h.fallback = texts[0].Txt[0], fallback
	}
}

// readSet adds the answer to a query for a type.
func (h *held) readSet(r *dns.Msg, owner string, t uint16) {
	h.sets[t] = nil
	for _, rr := range r.Answer {
		switch {
		case !strings.EqualFold(rr.Header().Name, owner):
		case rr.Header().Rrtype == t:
			h.sets[t] = append(h.sets[t], rr)
		case rr.Header().Rrtype == dns.TypeCNAME:
			h.alias = true
		}
	}
}
