package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxText is how much of what a member says is looked at, in bytes.
const maxText = 64 << 10

// tcp asks whether a connection is accepted and, if so told, whether the member says the right
// thing on it.
type tcp struct {
	talk talk
}

func parseTCP(l line) (Prober, error) {
	p := new(tcp)
	if err := l.hostless("tcp://:PORT or tcp://"); err != nil {
		return nil, err
	}
	if err := l.bare(); err != nil {
		return nil, err
	}
	if err := l.read(p.talk.options()); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *tcp) Kind() string   { return "tcp" }
func (p *tcp) String() string { return "tcp://" + p.talk.String() }

func (p *tcp) Probe(ctx context.Context, target netip.AddrPort) error { return call(ctx, target, p) }

// Talks implements the Caller interface.
func (p *tcp) Talks() bool { return p.talk.send != nil || p.talk.expect != nil }

// Talk implements the Caller interface.
func (p *tcp) Talk(ctx context.Context, made net.Conn, _ netip.AddrPort) error {
	c := bind(ctx, made)
	defer c.Close()
	return p.talk.on(ctx, c)
}

// A talk is what is said on a connection, and what must then be heard. Either may be left out.
type talk struct {
	send   []byte
	expect *regexp.Regexp
}

func (t *talk) options() map[string]option {
	return map[string]option{
		"expect": pattern("expect", &t.expect),
		"send": {takes: []string{"TEXT"}, set: func(args []string) (err error) {
			t.send, err = unescape(args[0])
			return err
		}},
	}
}

// String is the options in canonical form, each with a blank before it. There may be a password in
// what is sent.
func (t *talk) String() string {
	var s string
	if t.send != nil {
		s += " send " + digest(t.send)
	}
	if t.expect != nil {
		s += fmt.Sprintf(" expect %q", t.expect)
	}
	return s
}

// on has the talk on a connection that ends with ctx.
func (t *talk) on(ctx context.Context, c io.ReadWriter) error {
	if t.send != nil {
		if _, err := c.Write(t.send); err != nil {
			return plain(ctx, sending, err)
		}
	}
	if t.expect == nil {
		return nil
	}
	return t.listen(ctx, c)
}

// listen reads until what was read matches. It is looked at after each piece that arrives, as most
// protocols keep silent after a greeting, and do not close.
func (t *talk) listen(ctx context.Context, r io.Reader) error {
	var got []byte
	for len(got) < maxText {
		got = slices.Grow(got, 512)
		n, err := r.Read(got[len(got):min(cap(got), maxText)])
		got = got[:len(got)+n]
		switch {
		case n > 0 && t.expect.Match(got):
			return nil
		case err == io.EOF:
			return t.unmatched(got)
		case err != nil:
			return fmt.Errorf("%w: %w", plain(ctx, reading, err), t.unmatched(got))
		}
	}
	return t.unmatched(got)
}

func (t *talk) unmatched(got []byte) error {
	return fmt.Errorf("got %s, want match for %q", quote(got), t.expect)
}

// unescape is the text that a send option stands for: a Corefile has no way to write a line's end.
func unescape(word string) ([]byte, error) {
	if word == "" {
		return nil, fmt.Errorf(`send "", want a text`)
	}
	text := make([]byte, 0, len(word))
	for rest := word; rest != ""; {
		if rest[0] != '\\' {
			text = append(text, rest[0])
			rest = rest[1:]
			continue
		}
		b, n := escape(rest)
		if n == 0 {
			return nil, fmt.Errorf(`send %q has a wrong escape at %q, want one of \r \n \t \\ \xNN`, word, rest)
		}
		text = append(text, b)
		rest = rest[n:]
	}
	return text, nil
}

// escape is the byte that the escape s begins with stands for, and how long the escape is; 0 if it
// is none.
func escape(s string) (b byte, n int) {
	if len(s) < 2 {
		return 0, 0
	}
	if i := strings.IndexByte(`rnt\`, s[1]); i >= 0 {
		return "\r\n\t\\"[i], 2
	}
	if s[1] != 'x' || len(s) < 4 {
		return 0, 0
	}
	x, err := strconv.ParseUint(s[2:4], 16, 8) // takes no sign
	if err != nil {
		return 0, 0
	}
	return byte(x), 4
}
