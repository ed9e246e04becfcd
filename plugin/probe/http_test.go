package probe

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// readRequest is the request that comes on c, or nil.
func readRequest(c net.Conn) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return nil
	}
	return r
}

// answers returns a handler that waits for a request before another handler is called.
func answers(then func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		if readRequest(c) != nil {
			then(c)
		}
	}
}

func TestHTTP(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	say := func(text string) func(net.Conn) { return answers(says(text)) }
	oneByOne := ok + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nA\r\n", maxText-1) + "1\r\nB\r\n1\r\nC\r\n"
	tests := map[string]struct {
		words  string
		member func(net.Conn)
		want   string
	}{
		"good":                 {"", say(ok + "Content-Length: 0\r\n\r\n"), ""},
		"old":                  {"", say("HTTP/1.0 200 OK\r\n\r\n"), ""},
		"before being asked":   {"", says(ok + "\r\n"), ""},
		"redirect":             {"", say("HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n"), ""},
		"wanted failure":       {"status 503", say("HTTP/1.1 503 No\r\n\r\n"), ""},
		"head":                 {"method HEAD", say(ok + "Content-Length: 10\r\n\r\n"), ""},
		"body":                 {"body ^ok$", say(ok + "Content-Length: 2\r\n\r\nok"), ""},
		"body until the end":   {"body ^ok$", answers(func(c net.Conn) { io.WriteString(c, ok+"\r\nok") }), ""},
		"body in chunks":       {"body ^okay$", say(ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n2\r\nay\r\n0\r\n\r\n"), ""},
		"body byte by byte":    {"body AB$", say(oneByOne), ""},
		"body empty":           {"body ^$", say("HTTP/1.1 204 No Content\r\n\r\n"), ""},
		"body endless":         {"", answers(floods(ok+"\r\n", "A")), ""},
		"body never comes":     {"", say(ok + "Content-Length: 10\r\n\r\n"), ""},
		"informational":        {"", say("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + ok + "\r\n"), ""},
		"body, endless, early": {"body ^A+$", answers(floods(ok+"\r\n", "A")), ""},

		"failure":              {"", say("HTTP/1.1 503 No\r\n\r\n"), "status 503, want 200-399"},
		"redirect not wanted":  {"status 301,200-299", say("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"), "status 302, want 200-299,301"},
		"after informational":  {"", say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\n\r\n"), "status 500, want 200-399"},
		"switches":             {"", say("HTTP/1.1 101 Switching Protocols\r\n\r\n"), "status 101, want 200-399"},
		"odd status":           {"", say("HTTP/1.1 999 Go away\r\n\r\n"), "status 999, want 200-399"},
		"is silent":            {"", silent, "timeout while reading"},
		"hangs up":             {"", answers(hangsUp), "connection closed while reading"},
		"resets":               {"", answers(resets), "connection reset by peer while reading"},
		"drips header":         {"", answers(func(c net.Conn) { io.WriteString(c, ok); drips("X: y\r\n")(c) }), "timeout while reading"},
		"drips body":           {"body B", answers(func(c net.Conn) { io.WriteString(c, ok+"\r\n"); drips("A")(c) }), "timeout while reading the body"},
		"says garbage":         {"", says("+OK mail.example.org\r\n"), `malformed HTTP status code "mail.example.org"`},
		"says half a line":     {"", answers(func(c net.Conn) { io.WriteString(c, "SSH-2.0") }), `malformed HTTP response "SSH-2.0"`},
		"header cut":           {"", answers(func(c net.Conn) { io.WriteString(c, ok+"X: ") }), "connection closed while reading"},
		"chunks too wide":      {"body B", answers(floods(ok+"Transfer-Encoding: chunked\r\n\r\n", "00000000000000001\r\nA\r\n")), "..."},
		"says TLS":             {"", says("\x15\x03\x01\x00\x02\x02\x16\r\n"), `malformed HTTP response "\x15\x03\x01\x00\x02\x02\x16"`},
		"bad header":           {"", say(ok + "\x1b[2J\r\n\r\n"), `malformed MIME header: missing colon: "\x1b[2J"`},
		"endless line":         {"", floods("HTTP/1.1 200 ", "A"), "header longer than 65536 bytes"},
		"endless header":       {"", floods(ok, "X: y\r\n"), "header longer than 65536 bytes"},
		"endless 1xx":          {"", floods("", "HTTP/1.1 103 Early Hints\r\n\r\n"), "more than 5 informational responses"},
		"wrong body":           {"body ^ok$", say(ok + "Content-Length: 6\r\n\r\nbroken"), `body is "broken", want match for "^ok$"`},
		"no body":              {"body ok", say(ok + "Content-Length: 0\r\n\r\n"), `body is nothing, want match for "ok"`},
		"endless body":         {"body B", answers(floods(ok+"\r\n", "A")), `body is "` + strings.Repeat("A", 80) + `"... (65536 bytes), want match for "B"`},
		"body matches late":    {"body C", say(oneByOne), `body is "` + strings.Repeat("A", 80) + `"... (65536 bytes), want match for "C"`},
		"body cut":             {"body ok", answers(func(c net.Conn) { io.WriteString(c, ok+"Content-Length: 10\r\n\r\nok") }), "connection closed while reading the body"},
		"body in wrong chunks": {"body ok", say(ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\nok"), "invalid byte in chunk length"},
		"body of a failure":    {"body No", say("HTTP/1.1 503 No\r\n\r\nNo"), "status 503, want 200-399"},
	}
	ca := file(t, trusted().pem)
	cert, _, _ := trusted().sign("www.example.org", time.Hour)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := soon
			if strings.HasPrefix(tc.want, "timeout") {
				timeout = brief
			}
			words := strings.Fields(tc.words)
			for family, address := range loopback {
				if timeout < soon && family != "v4" {
					continue // one is long enough to wait for
				}
				p := mustParse(t, append([]string{"http://"}, words...)...)
				wantError(t, ask(t, p, serve(t, address, tc.member), timeout), tc.want)
			}
			if name == "resets" {
				return // not possible above TLS
			}
			if timeout < soon {
				timeout = 2 * brief // one for the handshake
			}
			p := mustParse(t, append([]string{"https://", "ca", ca}, words...)...)
			wantError(t, ask(t, p, serveTLS(t, "127.0.0.1:0", serverConfig(cert), nil, tc.member), timeout), tc.want)
		})
	}
}

// An endless is a member that never ends, and counts what is taken from it.
type endless struct {
	first, then string
	n           int
}

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		if e.n < len(e.first) {
			b[i] = e.first[e.n]
		} else {
			b[i] = e.then[(e.n-len(e.first))%len(e.then)]
		}
		e.n++
	}
	return len(b), nil
}

func TestReadsBounded(t *testing.T) {
	tests := map[string]struct {
		member endless
		most   int
	}{
		"line":         {endless{"HTTP/1.1 200 OK", "A", 0}, maxHeader},
		"header":       {endless{"HTTP/1.1 200 OK\r\n", "X: y\r\n", 0}, maxHeader},
		"big 1xx":      {endless{"", "HTTP/1.1 103 OK\r\nX: " + strings.Repeat("y", 30000) + "\r\n\r\n", 0}, maxHeader},
		"body":         {endless{"HTTP/1.1 200 OK\r\n\r\n", "A", 0}, maxText + 4096},
		"chunks":       {endless{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nA\r\n", 0}, 6*maxText + 4096},
		"chunk's head": {endless{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1;" + strings.Repeat("x", 100) + "\r\nA\r\n", 0}, maxHeader + maxWire},
		"chunk, wide":  {endless{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "00000000000001\r\nA\r\n", 0}, maxHeader + maxWire},
	}
	p := mustParse(t, "http://", "body", "B").Prober.(calling).Caller.(*web)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if err := p.judge(t.Context(), &tc.member); err == nil {
				t.Error("passed")
			}
			if tc.member.n > tc.most {
				t.Errorf("took %d bytes, want %d at most", tc.member.n, tc.most)
			}
		})
	}
}

func TestRequest(t *testing.T) {
	tests := map[string]struct {
		words  []string
		want   string // % stands for the port
		header map[string]string
	}{
		"plain":   {[]string{"http://"}, "GET / www.example.org:%", map[string]string{"User-Agent": "CoreDNS-failover", "Content-Length": ""}},
		"path":    {[]string{"http://:1/a/b%2Fc?x=%20&y"}, "GET /a/b%2Fc?x=%20&y www.example.org:%", nil},
		"query":   {[]string{"http://?x"}, "GET /?x www.example.org:%", nil},
		"host":    {[]string{"http://API.example.org.:1/"}, "GET / api.example.org:%", nil},
		"method":  {[]string{"http://", "method", "HEAD"}, "HEAD / www.example.org:%", nil},
		"post":    {[]string{"http://", "method", "POST"}, "POST / www.example.org:%", map[string]string{"Content-Length": "0"}},
		"headers": {[]string{"http://", "header", "x-a", "1 2", "header", "X-B", "", "header", "user-agent", "me"}, "GET / www.example.org:%", map[string]string{"X-A": "1 2", "X-B": "", "User-Agent": "me"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for _, address := range loopback {
				requests := make(chan *http.Request, 1)
				target := serve(t, address, func(c net.Conn) {
					requests <- readRequest(c)
					says("HTTP/1.1 200 OK\r\n\r\n")(c)
				})
				wantError(t, ask(t, mustParse(t, tc.words...), target, soon), "")
				_, port, _ := net.SplitHostPort(target.String())
				want := tc.want[:len(tc.want)-1] + port
				r := <-requests
				if r == nil {
					t.Fatal("the member does not understand the request")
				}
				if got := r.Method + " " + r.RequestURI + " " + r.Host; got != want {
					t.Errorf("got request %q, want %q", got, want)
				}
				if !r.Close || r.ContentLength != 0 {
					t.Errorf("got close %t and %d bytes to come, want true and 0", r.Close, r.ContentLength)
				}
				for name, want := range tc.header {
					if got := strings.Join(r.Header.Values(name), "|"); got != want {
						t.Errorf("got %s: %q, want %q", name, got, want)
					}
				}
			}
		})
	}
}

// The usual port is not mentioned in the Host header.
func TestHostPort(t *testing.T) {
	tests := []struct {
		url  string
		port uint16
		want string
	}{
		{"http://", 80, "www.example.org"},
		{"http://", 443, "www.example.org:443"},
		{"http://", 65535, "www.example.org:65535"},
		{"https://", 443, "www.example.org"},
		{"https://", 80, "www.example.org:80"},
	}
	for _, tc := range tests {
		p := mustParse(t, tc.url).Prober.(calling).Caller.(*web)
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(p.ask(tc.port)))))
		if err != nil {
			t.Fatal(err)
		}
		if r.Host != tc.want {
			t.Errorf("%s, port %d: got Host %q, want %q", tc.url, tc.port, r.Host, tc.want)
		}
	}
}

const benchPage = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"

// The floor of an HTTP probe: a request written by hand, a response read by net/http.
func BenchmarkHTTPFloor(b *testing.B) {
	target := serve(b, "127.0.0.1:0", answers(func(c net.Conn) { io.WriteString(c, benchPage) })).String()
	request := []byte("GET / HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: CoreDNS-failover\r\nConnection: close\r\n\r\n")
	d := net.Dialer{KeepAlive: -1}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	for b.Loop() {
		c, err := d.DialContext(ctx, "tcp", target)
		if err != nil {
			b.Fatal(err)
		}
		c.Write(request)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 {
			b.Fatal(err)
		}
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

func BenchmarkHTTP(b *testing.B) {
	target := serve(b, "127.0.0.1:0", answers(func(c net.Conn) { io.WriteString(c, benchPage) }))
	p := mustParse(b, "http://")
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	for b.Loop() {
		if err := p.Probe(ctx, target); err != nil {
			b.Fatal(err)
		}
	}
}
