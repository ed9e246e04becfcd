package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxHeader is how much is read before the body, in bytes: what most servers take at most.
	maxHeader = 64 << 10
	// maxWire is how much is read for maxText of body: each byte of it may come as a chunk of
	// its own.
	maxWire = 16 * maxText
	// maxInformational is how many 1xx responses may come before the real one. One is usual.
	maxInformational = 5
)

// web asks for a page, over http or https, and looks at the status and, if so told, at the body.
// Over HTTP/1.1 there is no http.Transport in it, as that would follow, keep, retry and unpack; one request on one
// connection needs nothing of it.
type web struct {
	kind     string // http, https
	usual    uint16 // the port that is not mentioned in the Host header
	host     string
	uri      string // path and query
	method   string
	header   []field
	statuses []span         // wanted; sorted, apart from each other
	body     *regexp.Regexp // nil: whatever
	secure   *secure        // nil: http

	head, tail []byte // the request, before and after the port in the Host header
}

// A field is a line of a header.
type field struct{ name, value string }

// A span is the numbers from and to, and all between them.
type span struct{ from, to int }

func parseHTTP(l line) (Prober, error) {
	p := &web{
		kind: l.url.Scheme, usual: l.usual, uri: l.url.RequestURI(),
		method: http.MethodGet, statuses: []span{{200, 399}},
	}
	options := p.options()
	if p.kind == "https" {
		p.secure = new(secure)
		maps.Copy(options, p.secure.options(l))
	}
	if err := l.read(options); err != nil {
		return nil, err
	}
	if p.method == http.MethodHead && p.body != nil {
		return nil, errors.New(`"body" with method HEAD, which has none, want one of them`)
	}
	var err error
	if p.host, err = l.host(true); err != nil {
		return nil, err
	}
	if p.secure != nil {
		if err := p.secure.finish(p.host); err != nil {
			return nil, err
		}
		p.secure.config.NextProtos = []string{"h2", "http/1.1"}
	}
	p.compose()
	return p, nil
}

func (p *web) options() map[string]option {
	return map[string]option{
		"body": pattern("body", &p.body),
		"header": {takes: []string{"NAME", "VALUE"}, repeat: true, set: func(args []string) error {
			f, err := parseField(args[0], args[1])
			p.header = append(p.header, f)
			return err
		}},
		"method": {takes: []string{"M"}, set: func(args []string) error {
			p.method = args[0]
			if !isToken(p.method) || p.method != strings.ToUpper(p.method) || p.method == http.MethodConnect {
				return fmt.Errorf("method %q, want one such as GET, HEAD or POST", p.method)
			}
			return nil
		}},
		"status": {takes: []string{"CODES"}, set: func(args []string) (err error) {
			p.statuses, err = parseStatuses(args[0])
			return err
		}},
	}
}

// ours are the header fields that a probe writes itself; a second one would make a broken request.
var ours = []string{"Connection", "Content-Length", "Expect", "Host", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func parseField(name, value string) (field, error) {
	if !isToken(name) {
		return field{}, fmt.Errorf("header %q, want a name such as Authorization", name)
	}
	f := field{textproto.CanonicalMIMEHeaderKey(name), strings.Trim(value, " \t")}
	if f.name == "Host" {
		return field{}, fmt.Errorf("header %q, want the host in the URL", name)
	}
	if slices.Contains(ours, f.name) {
		return field{}, fmt.Errorf("header %q, want another: the probe writes this one itself", name)
	}
	if strings.ContainsFunc(f.value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return field{}, fmt.Errorf("header %s has the value %q, want no control characters", name, value)
	}
	return f, nil
}

// isToken reports whether s can be the name of a method or of a header field.
func isToken(s string) bool {
	const punctuation = "!#$%&'*+-.^_`|~"
	for _, r := range s {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		if !letter && !strings.ContainsRune(punctuation, r) {
			return false
		}
	}
	return s != ""
}

// parseStatuses reads codes and ranges with commas between them, such as 200-299,301.
func parseStatuses(word string) ([]span, error) {
	var spans []span
	for part := range strings.SplitSeq(word, ",") {
		low, high, ranged := strings.Cut(part, "-")
		if !ranged {
			high = low
		}
		from, err1 := strconv.ParseUint(low, 10, 16)
		to, err2 := strconv.ParseUint(high, 10, 16)
		if err1 != nil || err2 != nil || from < 100 || to > 599 || from > to {
			return nil, fmt.Errorf("status %q, want codes from 100 to 599, such as 200-299,301", word)
		}
		spans = append(spans, span{int(from), int(to)})
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	merged := spans[:1]
	for _, s := range spans[1:] {
		if last := &merged[len(merged)-1]; s.from <= last.to+1 {
			last.to = max(last.to, s.to)
			continue
		}
		merged = append(merged, s)
	}
	return merged, nil
}

// compose writes the request, as http.Request.Write would, but for the port.
func (p *web) compose() {
	var b strings.Builder
	if !slices.ContainsFunc(p.header, func(f field) bool { return f.name == "User-Agent" }) {
		b.WriteString("\r\nUser-Agent: CoreDNS-failover")
	}
	for _, f := range p.header {
		b.WriteString("\r\n" + f.name + ": " + f.value)
	}
	if slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch}, p.method) {
		b.WriteString("\r\nContent-Length: 0")
	}
	b.WriteString("\r\nConnection: close\r\n\r\n")
	p.head = []byte(p.method + " " + p.uri + " HTTP/1.1\r\nHost: " + p.host)
	p.tail = []byte(b.String())
}

// ask is the request as it is sent to a port.
func (p *web) ask(port uint16) []byte {
	b := make([]byte, 0, len(p.head)+len(":65535")+len(p.tail))
	b = append(b, p.head...)
	if port != p.usual {
		b = append(b, ':')
		b = strconv.AppendUint(b, uint64(port), 10)
	}
	return append(b, p.tail...)
}

func (p *web) Kind() string { return p.kind }

func (p *web) String() string {
	var b strings.Builder
	b.WriteString(p.kind + "://" + p.host + p.uri)
	if p.method != http.MethodGet {
		b.WriteString(" method " + p.method)
	}
	// The order of fields of one name may matter, that of others does not.
	header := slices.Clone(p.header)
	slices.SortStableFunc(header, func(a, b field) int { return strings.Compare(a.name, b.name) })
	for _, f := range header {
		b.WriteString(" header " + f.name + " " + digest([]byte(f.value)))
	}
	b.WriteString(" status " + p.want())
	if p.body != nil {
		fmt.Fprintf(&b, " body %q", p.body)
	}
	if p.secure != nil {
		b.WriteString(p.secure.String())
	}
	return b.String()
}

// want is the statuses as they are written in a Corefile.
func (p *web) want() string {
	parts := make([]string, 0, len(p.statuses))
	for _, s := range p.statuses {
		part := strconv.Itoa(s.from)
		if s.to > s.from {
			part += "-" + strconv.Itoa(s.to)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ",")
}

func (p *web) Probe(ctx context.Context, target netip.AddrPort) error { return call(ctx, target, p) }

// Talks implements the Caller interface.
func (p *web) Talks() bool { return true }

// Talk implements the Caller interface.
func (p *web) Talk(ctx context.Context, made net.Conn, target netip.AddrPort) error {
	c := bind(ctx, made)
	defer c.Close()

	var rw io.ReadWriter = c
	if p.secure != nil {
		session, err := p.secure.shake(ctx, c, p.secure.config, target)
		if err != nil {
			return err
		}
		if session.ConnectionState().NegotiatedProtocol == "h2" {
			return p.speak2(ctx, c, session, target.Port())
		}
		rw = session
	}
	if _, err := rw.Write(p.ask(target.Port())); err != nil {
		return plain(ctx, sending, err)
	}
	return p.judge(ctx, rw)
}

// judge reads the response from r.
func (p *web) judge(ctx context.Context, r io.Reader) error {
	src := &source{r: r, left: maxHeader}
	resp, err := response(bufio.NewReader(src))
	if err != nil {
		return src.why(ctx, reading, err)
	}
	// The body is never closed: that would read it to its end, which it may not have. There is
	// nothing in it to be released but the connection.
	src.left = maxWire
	return p.judgeResponse(resp, func(err error) error { return src.why(ctx, "while reading the body", err) })
}

// wants reports whether a status is one of those wanted.
func (p *web) wants(status int) bool {
	return slices.ContainsFunc(p.statuses, func(s span) bool { return s.from <= status && status <= s.to })
}

// response is the first that is not merely informational. One that switches protocols is final.
func response(r *bufio.Reader) (*http.Response, error) {
	for range 1 + maxInformational {
		// Without the request a response to HEAD seems to have a body; nobody reads that.
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
	return nil, fmt.Errorf("more than %d informational responses", maxInformational)
}

// A source is what a response is read from. It ends after so many bytes, and remembers what it ended
// with, as a parser makes of a line cut short what it likes.
type source struct {
	r    io.Reader
	left int
	err  error // nil while there is more, and at a proper end
}

func (s *source) Read(b []byte) (int, error) {
	if s.left <= 0 {
		s.err = errTooMuch
		return 0, s.err
	}
	n, err := s.r.Read(b[:min(len(b), s.left)])
	s.left -= n
	if err != io.EOF {
		s.err = err
	}
	return n, err
}

// errTooMuch is what a source ends with that has been read as far as it may be.
var errTooMuch = errors.New("too much")

// why is the error of a probe that could not make sense of s because of err.
func (s *source) why(ctx context.Context, doing string, err error) error {
	switch {
	case s.err == errTooMuch && doing == reading:
		return fmt.Errorf("header longer than %d bytes", maxHeader)
	case s.err == errTooMuch:
		return fmt.Errorf("more than %d bytes of chunks for %d bytes of body", maxWire, maxText)
	case s.err != nil:
		return plain(ctx, doing, s.err)
	}
	return plain(ctx, doing, err)
}
