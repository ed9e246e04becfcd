package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// health asks gRPC's standard health service, grpc.health.v1, how a service is.
type health struct {
	kind    string // grpc, grpcs
	host    string
	service string  // empty: the server as a whole
	secure  *secure // nil: grpc
}

func parseGRPC(l line) (Prober, error) {
	p := &health{kind: l.url.Scheme, service: strings.TrimPrefix(l.url.Path, "/")}
	if l.url.RawQuery != "" || l.url.ForceQuery {
		return nil, fmt.Errorf("URL %q has a query, want %s://%s%s", l.word, p.kind, l.url.Host, l.url.EscapedPath())
	}
	if strings.ContainsFunc(p.service, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, fmt.Errorf("service %q, want a name such as my.pkg.Service", p.service)
	}
	var options map[string]option
	if p.kind == "grpcs" {
		p.secure = new(secure)
		options = p.secure.options(l)
	}
	if err := l.read(options); err != nil {
		return nil, err
	}
	var err error
	if p.host, err = l.host(true); err != nil {
		return nil, err
	}
	if p.secure != nil {
		if err := p.secure.finish(p.host); err != nil {
			return nil, err
		}
		p.secure.config.NextProtos = []string{"h2"}
	}
	return p, nil
}

func (p *health) Kind() string { return p.kind }

func (p *health) String() string {
	s := p.kind + "://" + p.host + "/" + p.service
	if p.secure != nil {
		s += p.secure.String()
	}
	return s
}

func (p *health) Probe(ctx context.Context, target netip.AddrPort) error { return call(ctx, target, p) }

// Talks implements the Caller interface.
func (p *health) Talks() bool { return true }

// Talk implements the Caller interface.
func (p *health) Talk(ctx context.Context, made net.Conn, target netip.AddrPort) error {
	c := bind(ctx, made)
	defer c.Close()

	s := &stream{Conn: c, c: c, source: source{left: maxWire}}
	if p.secure != nil {
		t, err := p.secure.shake(ctx, c, p.secure.config, target)
		if err != nil {
			return err
		}
		if t.ConnectionState().NegotiatedProtocol != "h2" {
			return errors.New("no protocol negotiated in the TLS handshake (ALPN), want h2")
		}
		s.Conn = t
	}
	s.source.r = s.Conn
	resp, err := p.check(ctx, s, target)
	if err != nil {
		return p.why(ctx, s, err)
	}
	if got := resp.GetStatus(); got != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("status %s, want SERVING", got)
	}
	return nil
}

// check asks on s. Nothing of the client is left when it returns, nor is s.
func (p *health) check(ctx context.Context, s *stream, target netip.AddrPort) (*grpc_health_v1.HealthCheckResponse, error) {
	once := make(chan net.Conn, 1)
	once <- s
	cc, err := grpc.NewClient("passthrough:///"+target.String(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, errors.New("connection closed") // or it would not ask for another
			}
		}),
		grpc.WithTransportCredentials(p.credentials()),
		grpc.WithAuthority(p.authority(target.Port())),
		grpc.WithUserAgent("CoreDNS-failover"),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableHealthCheck(),
		grpc.WithIdleTimeout(0),
		grpc.WithMaxHeaderListSize(maxHeader),
		grpc.WithReadBufferSize(2048), // a few hundred bytes go each way
		grpc.WithWriteBufferSize(512),
		grpc.WithStaticStreamWindowSize(64<<10), // and their rate needs no estimate
		grpc.WithStaticConnWindowSize(64<<10),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxText)),
	)
	if err != nil {
		return nil, err
	}
	defer cc.Close()
	// Before the client: it would take its leave, and wait five seconds for a member that reads nothing.
	defer s.Close()
	return grpc_health_v1.NewHealthClient(cc).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: p.service})
}

// authority is host and port, as gRPC's clients have it.
func (p *health) authority(port uint16) string {
	if p.secure != nil && port == 443 || p.secure == nil && port == 80 {
		return p.host
	}
	return net.JoinHostPort(p.host, strconv.Itoa(int(port)))
}

// credentials are those of a connection on which all hands have been shaken.
func (p *health) credentials() credentials.TransportCredentials {
	if p.secure == nil {
		return insecure.NewCredentials()
	}
	return shaken{insecure.NewCredentials()}
}

// shaken has the client say https for the scheme, and do nothing else about it.
type shaken struct {
	credentials.TransportCredentials
}

func (s shaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (s shaken) Clone() credentials.TransportCredentials { return s }

// A stream is a connection from which so much is read at most, that takes no leave, and that knows what
// it met with first. The client reads and writes on it at once.
type stream struct {
	net.Conn
	c      *conn
	source source
	met    atomic.Pointer[trouble]
	ended  func() // called when the client reads no more; nil: nobody waits for that
}

// trouble is an error, and what was being done.
type trouble struct {
	doing string
	err   error
}

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.source.Read(b)
	if err != nil && s.ended != nil {
		defer s.ended()
	}
	return n, s.meet(reading, err)
}

func (s *stream) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	return n, s.meet(sending, err)
}

func (s *stream) Close() error {
	if s.ended != nil {
		defer s.ended()
	}
	return s.c.Close()
}

func (s *stream) meet(doing string, err error) error {
	if err != nil {
		s.met.CompareAndSwap(nil, &trouble{doing, err})
	}
	return err
}

// why is the error of a check on s in words for an operator.
func (p *health) why(ctx context.Context, s *stream, err error) error {
	said, _ := status.FromError(err)
	met := s.met.Load()
	switch code := said.Code(); {
	case code == codes.Unimplemented:
		return errors.New(legible("no health service (grpc.health.v1), want one that says SERVING: " + said.Message()))
	case code == codes.NotFound:
		return fmt.Errorf("the health service does not know of service %q, want SERVING", p.service)
	case ctx.Err() != nil:
		return plain(ctx, reading, ctx.Err())
	case code == codes.DeadlineExceeded: // the member has been told of ours, and was first
		return errors.New("timeout " + reading)
	case met != nil && met.err == errTooMuch:
		return fmt.Errorf("more than %d bytes received for one status", maxWire)
	case code == codes.Unavailable && met != nil && !errors.Is(met.err, net.ErrClosed):
		return plain(ctx, met.doing, met.err)
	default:
		return errors.New(legible(code.String() + ": " + said.Message()))
	}
}
