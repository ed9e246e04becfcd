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

// troubleOf judges an answer, or that there is none. No trouble is in the codes that say whether a prerequisite is met.
func (u *update) troubleOf(r *dns.Msg, err error) *trouble {
	if r == nil {
		return &trouble{"unreachable", err.Error(), true}
	}
	tsig := r.IsTsig()
	if r.Rcode == dns.RcodeNotAuth {
		if tsig != nil {
			switch tsig.Error {
			case dns.RcodeBadKey:
				return &trouble{"badkey", fmt.Sprintf("NOTAUTH (BADKEY): the server does not know the key %s with %s, or does not allow it this", u.key, strings.TrimSuffix(u.algorithm, ".")), true}
			case dns.RcodeBadSig:
				return &trouble{"badsig", "NOTAUTH (BADSIG): the server has another secret for the key", true}
			case dns.RcodeBadTime:
				return &trouble{"badtime", "NOTAUTH (BADTIME): its clock and ours are more than five minutes apart", true}
			}
		}
		why := "NOTAUTH: the server is not the primary of the zone"
		if u.key == "" {
			why += ", or it wants a key"
		}
		return &trouble{"notauth", why, true}
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
		if u.key != "" && tsig == nil {
			return &trouble{"unsigned", "the answer is not signed", true}
		}
		return nil
	case dns.RcodeRefused:
		return &trouble{"refused", "REFUSED: the server does not allow the zone or this name", false}
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
	m.Ns = append(m.Ns, markerRR(name, c.marker(u.writer).text))
	return m
}

// replace is an UPDATE that gives a name its content, if it has this marker, and nothing that the marker does not name.
func (u *update) replace(name string, there *marker, c *content) *dns.Msg {
	m := u.begin(name)
	m.Used([]dns.RR{markerRR(name, there.text)})
	for _, t := range there.types {
		m.RemoveRRset(set(name, t))
	}
	for _, t := range c.types() {
		switch {
		case !there.names(t):
			m.RRsetNotUsed(set(name, t))
		case !slices.Contains(there.types, t):
			m.RemoveRRset(set(name, t))
		}
		m.Ns = append(m.Ns, c.sets[t]...)
	}
	m.RemoveRRset(set(markerOf(name), dns.TypeTXT))
	m.Ns = append(m.Ns, markerRR(name, c.marker(u.writer).text))
	return m
}

// queryFor is a query for records at the primary.
func queryFor(name string, t uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, t)
	m.RecursionDesired = false
	return m
}

// held is what a server has for a name, as queries see it. The hash is of what the marker names.
type held struct {
	content
	marker    marker
	strangers []uint16 // the types that there are, and the marker does not name
	alias     bool
	texts     bool   // there is a TXT record in the marker's place
	delegated string // where the name lies, and the zone does not go on; "": it does
}

// readMarker adds the answer to a query for the marker.
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
	h.marker = readMarker(texts[0].Txt[0])
	h.fallback = h.marker.fallback
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

// referral is the zone that an answer leads to, instead of being one; "": it does not.
func (u *update) referral(r *dns.Msg) string {
	for _, rr := range r.Ns {
		if len(r.Answer) == 0 && rr.Header().Rrtype == dns.TypeNS && !strings.EqualFold(rr.Header().Name, u.zone) {
			return rr.Header().Name
		}
	}
	return ""
}

// weigh sorts out what the marker names once everything is known.
func (h *held) weigh() {
	ours := make(map[uint16][]dns.RR)
	for t, rrs := range h.sets {
		if h.marker.names(t) {
			ours[t] = rrs
		} else if len(rrs) > 0 {
			h.strangers = append(h.strangers, t)
		}
	}
	slices.Sort(h.strangers)
	h.hash = hashOf(ours)
}
