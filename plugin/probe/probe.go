// Package probe asks one address one question: do you work?
//
// A question is written as a URL and options, the words that follow "probe" in a Corefile. Parse
// turns them into a Spec, whose Prober asks the question of any address it is given. Only that
// address is ever dialled; the URL's host is the name that is spoken of: the Host header, the SNI
// and the name a certificate is verified for. What a program dials that is run is its own affair.
//
// There is no clock, no log and no metric here, and no retry: when to ask, and what to believe of
// the answers, is for the caller to decide.
package probe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// A Prober asks one question of one address.
type Prober interface {
	// Probe asks target, over a fresh connection, and returns nil if it passed. The error of a
	// failed probe says what was got and what was wanted ("status 503, want 200-399"), or what
	// went wrong ("connection refused"); target is not repeated in it.
	//
	// Probe returns when ctx ends, be it by its deadline or by cancellation; without either it may
	// wait for ever. It reads a bounded amount, and has closed all it opened when it returns. It
	// may be called by any number of goroutines at once.
	Probe(ctx context.Context, target netip.AddrPort) error

	// Kind is the scheme of the URL: tcp, tls, http, https, dns, grpc, grpcs, icmp, exec.
	Kind() string

	// String is the whole question in canonical form: two Probers with equal Strings ask the same
	// of any target, so one can serve for both. What may be a secret (texts sent, header values,
	// arguments) and the contents of files are in it as SHA-256 digests: a replaced file is a new
	// question. A program is not: it is read anew each time it is run.
	String() string
}

// Spec is one parsed probe: what is asked, and on which port.
type Spec struct {
	Prober
	Port  uint16 // the port in the URL; 0: none was given
	Usual uint16 // the scheme's usual port; 0: it has none
	Word  string // the URL as it was written
	ports ports
}

// ports says what a kind makes of them.
type ports uint8

const (
	needed  ports = iota // one has to be known
	welcome              // it does without
	unheard              // it knows of none
)

// Same says whether another asks the same: what is known from it is an answer to this one, too.
func (s Spec) Same(other Spec) bool { return s.String() == other.String() && s.Port == other.Port }

// Target is what is dialled for a member: the port is the URL's, else the member's own, else the
// scheme's usual one. Without any it is an error, but for a kind that needs none: then it is 0.
func (s Spec) Target(member netip.AddrPort) (netip.AddrPort, error) {
	if s.ports == unheard {
		return netip.AddrPortFrom(member.Addr(), 0), nil // whatever the member's, it is the same question
	}
	for _, port := range []uint16{s.Port, member.Port(), s.Usual} {
		if port != 0 {
			return netip.AddrPortFrom(member.Addr(), port), nil
		}
	}
	if s.ports == welcome {
		return netip.AddrPortFrom(member.Addr(), 0), nil
	}
	return netip.AddrPort{}, fmt.Errorf("no port for %s, want one with the address, as in %s, or in the probe's URL",
		member.Addr(), netip.AddrPortFrom(member.Addr(), 443))
}

// ErrNotAsked is in the error of a probe that could not ask its member anything, which says nothing of that: what it
// takes to ask was in use.
var ErrNotAsked = errors.New("not asked")

// A kind is one way of asking.
type kind struct {
	usual uint16                     // the usual port; 0: there is none
	ports ports                      // what it makes of them
	watch bool                       // it may watch a connection
	parse func(line) (Prober, error) // makes the Prober of a line of this kind
}

var kinds = map[string]kind{
	"dns":   {usual: 53, parse: parseDNS},
	"exec":  {ports: welcome, parse: parseExec},
	"grpc":  {parse: parseGRPC, watch: true},
	"grpcs": {parse: parseGRPC, watch: true},
	"http":  {usual: 80, parse: parseHTTP, watch: true},
	"https": {usual: 443, parse: parseHTTP, watch: true},
	"icmp":  {ports: unheard, parse: parseICMP},
	"tcp":   {parse: parseTCP, watch: true},
	"tls":   {parse: parseTLS, watch: true},
}

// Parse reads the words that follow "probe" in a Corefile: a URL, then options. Name is the pool's
// first name, without trailing dot: the host where the URL has none. It is empty for a wildcard,
// which is nobody's host. Root is the directory that relative file names start from, empty for the
// working directory.
func Parse(words []string, name, root string) (Spec, error) {
	if len(words) == 0 {
		return Spec{}, errors.New("no URL, want one such as tcp://:443 or http://:8080/healthz")
	}
	scheme, _, found := strings.Cut(words[0], "://")
	if !found {
		return Spec{}, fmt.Errorf("%q is not a URL, want one such as tcp://:443 or http://:8080/healthz", words[0])
	}
	k, found := kinds[strings.ToLower(scheme)]
	if !found {
		return Spec{}, fmt.Errorf("unknown kind of probe %q, want one of %s", scheme, list(kinds))
	}
	l, err := parseLine(words, name, root)
	if err != nil {
		return Spec{}, err
	}
	l.usual = k.usual
	watch := false
	if k.watch {
		l.watch = &watch
	}
	p, err := k.parse(l)
	if err != nil {
		return Spec{}, err
	}
	return Spec{Prober: known(p, watch), Port: l.port, Usual: k.usual, Word: words[0], ports: k.ports}, nil
}

// A question is a Prober that has its String at hand: it is compared for every member.
type question struct {
	Prober
	text  string
	watch bool
}

func (q question) String() string { return q.text }

// Watches implements the Watching interface.
func (q question) Watches() bool { return q.watch }

// known is p with its String at hand.
func known(p Prober, watch bool) Prober {
	text := p.String()
	if watch {
		text += " watch"
	}
	if c, ok := p.(Caller); ok {
		return calling{c, text, watch}
	}
	return question{p, text, watch}
}

// list is the keys of m as an error message lists them.
func list[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
