package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"golang.org/x/net/http2"
)

// transport2 makes the client of each HTTP/2 connection. It has no state of its own: a connection is used once. It is of
// x/net, because net/http has no client for a connection whose TLS handshake is over.
var transport2 = &http2.Transport{ //nolint:staticcheck // see above
	DisableCompression: true,      //nolint:staticcheck // see above
	MaxHeaderListSize:  maxHeader, //nolint:staticcheck // see above
	MaxReadFrameSize:   16 << 10,  //nolint:staticcheck // see above; it is the least that the protocol allows
}

// speak2 asks for the page over HTTP/2 on a connection whose TLS handshake is over. Nothing of the client is left when it
// returns: the end of the connection ends its reader.
func (p *web) speak2(ctx context.Context, c *conn, t session, port uint16) error {
	s := &stream{Conn: t, c: c, source: source{r: t, left: maxHeader + maxWire}}
	ended := make(chan struct{})
	s.ended = sync.OnceFunc(func() { close(ended) })
	client, err := transport2.NewClientConn(s) //nolint:staticcheck // see transport2
	if err != nil {
		return s.why2(ctx, err)
	}
	defer func() {
		c.Close() // the client would take its leave
		select {
		case <-ended: // the client's reader has the connection open until it sees the end
		case <-ctx.Done():
		}
	}()
	r, err := p.request2(ctx, port)
	if err != nil {
		return err
	}
	resp, err := client.RoundTrip(r)
	if err != nil {
		return s.why2(ctx, err)
	}
	return p.judgeResponse(resp, func(err error) error { return s.why2(ctx, err) })
}

// why2 is the reason of an error that the client met on s.
func (s *stream) why2(ctx context.Context, err error) error {
	met := s.met.Load()
	switch {
	case ctx.Err() != nil:
		return plain(ctx, reading, ctx.Err())
	case met != nil && met.err == errTooMuch:
		return fmt.Errorf("more than %d bytes received for one page", maxHeader+maxWire)
	case met != nil && !errors.Is(met.err, net.ErrClosed):
		return plain(ctx, met.doing, met.err)
	}
	return plain(ctx, reading, err)
}

// request2 is the request that ask writes for HTTP/1.1.
func (p *web) request2(ctx context.Context, port uint16) (*http.Request, error) {
	u, err := url.ParseRequestURI(p.uri)
	if err != nil {
		return nil, err
	}
	u.Scheme, u.Host = "https", p.host
	if port != p.usual {
		u.Host += ":" + strconv.Itoa(int(port))
	}
	r := (&http.Request{Method: p.method, URL: u, Host: u.Host, Header: make(http.Header), Proto: "HTTP/2.0", ProtoMajor: 2}).WithContext(ctx)
	r.Header.Set("User-Agent", "CoreDNS-failover")
	for _, f := range p.header {
		if f.name == "User-Agent" {
			r.Header.Del(f.name)
		}
	}
	for _, f := range p.header {
		r.Header.Add(f.name, f.value)
	}
	return r, nil
}

// judgeResponse looks at the status and, if there is a pattern, at the body. failed words an error of reading the body.
func (p *web) judgeResponse(resp *http.Response, failed func(error) error) error {
	if !p.wants(resp.StatusCode) {
		return fmt.Errorf("status %d, want %s", resp.StatusCode, p.want())
	}
	if p.body == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxText))
	if err != nil {
		return failed(err)
	}
	if !p.body.Match(body) {
		return fmt.Errorf("body is %s, want match for %q", quote(body), p.body)
	}
	return nil
}
