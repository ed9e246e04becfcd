package probe

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/grpclog"
	healthserver "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

func init() { grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)) }

// serveGRPC serves what register registers; config may be nil.
func serveGRPC(t testing.TB, address string, config *tls.Config, register func(*grpc.Server)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var options []grpc.ServerOption
	if config != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	s := grpc.NewServer(options...)
	register(s)
	var wg sync.WaitGroup
	wg.Go(func() { s.Serve(l) })
	t.Cleanup(func() {
		s.Stop()
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// healthy is a health service that knows of a few services.
func healthy(s *grpc.Server) {
	h := healthserver.NewServer()
	h.SetServingStatus("my.pkg.Down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	h.SetServingStatus("my.pkg.Up", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(s, h)
}

// A sick health service answers with what its function does.
type sick struct {
	grpc_health_v1.UnimplementedHealthServer
	check func(context.Context) (*grpc_health_v1.HealthCheckResponse, error)
}

func (s sick) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return s.check(ctx)
}

func TestGRPC(t *testing.T) {
	checks := func(check func(context.Context) (*grpc_health_v1.HealthCheckResponse, error)) func(*grpc.Server) {
		return func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, sick{check: check}) }
	}
	tests := map[string]struct {
		url      string
		register func(*grpc.Server)
		want     string
	}{
		"serving":         {"grpc://", healthy, ""},
		"a service":       {"grpc:///my.pkg.Up", healthy, ""},
		"not serving":     {"grpc:///my.pkg.Down", healthy, "status NOT_SERVING, want SERVING"},
		"unknown service": {"grpc:///my.pkg.Other", healthy, `the health service does not know of service "my.pkg.Other", want SERVING`},
		"no health service": {"grpc://", func(*grpc.Server) {},
			"no health service (grpc.health.v1), want one that says SERVING: unknown service grpc.health.v1.Health"},
		"unknown status": {"grpc://", checks(func(context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
			return new(grpc_health_v1.HealthCheckResponse), nil
		}), "status UNKNOWN, want SERVING"},
		"slow": {"grpc://", checks(func(ctx context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}), "timeout while reading"},
		"fails": {"grpc://", checks(func(context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
			return nil, io.ErrUnexpectedEOF
		}), "Unknown: unexpected EOF"},
		"says much": {"grpc://", checks(func(ctx context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
			grpc.SendHeader(ctx, metadata.Pairs("x", strings.Repeat("a", 100<<10)))
			return new(grpc_health_v1.HealthCheckResponse), nil
		}), "Internal: ..."},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := soon
			if strings.HasPrefix(tc.want, "timeout") {
				timeout = 2 * brief
			}
			for _, address := range loopback {
				wantError(t, ask(t, mustParse(t, tc.url), serveGRPC(t, address, nil, tc.register), timeout), tc.want)
			}
		})
	}
}

// Members that do not speak HTTP/2, or not well.
func TestGRPCGarbage(t *testing.T) {
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	const ping = "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"
	tests := map[string]struct {
		member func(net.Conn)
		want   string
	}{
		"is silent":          {silent, "timeout while reading"},
		"drips":              {drips("\x00"), "..."},
		"says hello":         {says("220 mail.example.org ESMTP, and what else there is to say\r\n"), "Unavailable: connection error: ..."},
		"is a web server":    {answers(says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")), "Unavailable: connection error: ..."},
		"hangs up":           {func(c net.Conn) { c.Read(make([]byte, 512)) }, "connection ..."},
		"resets":             {resets, "connection reset by peer while reading"},
		"hangs up in it":     {func(c net.Conn) { io.WriteString(c, settings); c.Read(make([]byte, 512)) }, "connection ..."},
		"knows HTTP/2 only":  {says(settings), "timeout while reading"},
		"floods, not reads":  {floods(settings, ping), "more than 1048576 bytes received for one status"},
		"floods with zeroes": {floods(settings, "\x00"), "..."},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := soon
			if strings.HasPrefix(tc.want, "timeout") {
				timeout = 2 * brief
			}
			err := ask(t, mustParse(t, "grpc://"), serve(t, "127.0.0.1:0", tc.member), timeout)
			if err == nil {
				t.Fatal("passed")
			}
			wantError(t, err, tc.want)
		})
	}
}

// A web server that speaks HTTP/2, and knows nothing of gRPC.
func TestGRPCWeb(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Protocols: new(http.Protocols), Handler: http.NotFoundHandler()}
	s.Protocols.SetUnencryptedHTTP2(true)
	var wg sync.WaitGroup
	wg.Go(func() { s.Serve(l) })
	defer wg.Wait()
	defer s.Close()
	wantError(t, ask(t, mustParse(t, "grpc://"), l.Addr().(*net.TCPAddr).AddrPort(), soon),
		"no health service (grpc.health.v1), want one that says SERVING: unexpected HTTP status code received from server: 404 (Not Found)...")
}

func TestGRPCS(t *testing.T) {
	ca, others := file(t, trusted().pem), file(t, other().pem)
	cert := func(a authority, name string, left time.Duration) *tls.Config {
		c, _, _ := a.sign(name, left)
		return serverConfig(c)
	}
	good := cert(trusted(), "www.example.org", 100*time.Hour)
	mutual := good.Clone()
	mutual.ClientAuth = tls.RequireAnyClientCert
	_, certPEM, keyPEM := other().sign("client", time.Hour)
	pair := file(t, certPEM) + " " + file(t, keyPEM)
	tests := map[string]struct {
		words  string
		config *tls.Config
		want   string
	}{
		"good":              {"grpcs:///my.pkg.Up ca CA", good, ""},
		"good otherwise":    {"grpcs://b.example.org ca CA", cert(trusted(), "b.example.org", time.Hour), ""},
		"insecure":          {"grpcs:// insecure", cert(other(), "x", -time.Hour), ""},
		"lasts":             {"grpcs:// ca CA expires 99h", good, ""},
		"client known":      {"grpcs:// ca CA cert " + pair, mutual, ""},
		"down":              {"grpcs:///my.pkg.Down ca CA", good, "status NOT_SERVING, want SERVING"},
		"expired":           {"grpcs:// ca CA", cert(trusted(), "www.example.org", -time.Hour), "x509: certificate has expired or is not yet valid: ..."},
		"expires":           {"grpcs:// ca CA expires 120h fail", good, "certificate expires in 99h59m, want 120h or more"},
		"wrong name":        {"grpcs://b.example.org ca CA", good, "x509: certificate is valid for www.example.org, not b.example.org"},
		"unknown authority": {"grpcs:// ca " + others, good, "x509: certificate signed by unknown authority..."},
		"client unknown":    {"grpcs:// ca CA", mutual, "remote error: tls: certificate required"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			words := strings.Fields(strings.Replace(tc.words, "CA", ca, 1))
			for _, address := range loopback {
				wantError(t, ask(t, mustParse(t, words...), serveGRPC(t, address, tc.config, healthy), soon), tc.want)
			}
		})
	}
	plain := serveTLS(t, "127.0.0.1:0", good, nil, silent)
	wantError(t, ask(t, mustParse(t, "grpcs://", "ca", ca), plain, soon), "no protocol negotiated in the TLS handshake (ALPN), want h2")
	web := good.Clone()
	web.NextProtos = []string{"http/1.1"}
	wantError(t, ask(t, mustParse(t, "grpcs://", "ca", ca), serveTLS(t, "127.0.0.1:0", web, nil, silent), soon), "no protocol in common in the TLS handshake (ALPN): the probe offers h2")
	wantError(t, ask(t, mustParse(t, "grpcs://"), serve(t, "127.0.0.1:0", silent), brief), "timeout in the TLS handshake")
}

// What a member is asked for: host and port as a client has it, whatever proxies the environment names.
func TestGRPCAuthority(t *testing.T) {
	for _, name := range []string{"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	heard := make(chan string, 1)
	target := serveGRPC(t, "127.0.0.1:0", nil, func(s *grpc.Server) {
		grpc_health_v1.RegisterHealthServer(s, sick{check: func(ctx context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			heard <- strings.Join(md.Get(":authority"), " ")
			return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
		}})
	})
	for url, want := range map[string]string{"grpc://": "www.example.org", "grpc://B.example.org./x": "b.example.org"} {
		wantError(t, ask(t, mustParse(t, url), target, soon), "")
		if got, want := <-heard, want+strings.TrimPrefix(target.String(), "127.0.0.1"); got != want {
			t.Errorf("%s: the authority is %q, want %q", url, got, want)
		}
	}
	if got := (&health{host: "a"}).authority(80) + (&health{host: "b", secure: new(secure)}).authority(443); got != "ab" {
		t.Errorf("the usual ports are mentioned: %s", got)
	}
}

func BenchmarkGRPC(b *testing.B) {
	benchmark(b, serveGRPC(b, "127.0.0.1:0", nil, healthy), "grpc://")
}

func BenchmarkGRPCS(b *testing.B) {
	cert, _, _ := trusted().sign("www.example.org", time.Hour)
	benchmark(b, serveGRPC(b, "127.0.0.1:0", serverConfig(cert), healthy), "grpcs://", "insecure")
}
