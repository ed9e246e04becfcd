package test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/pb"

	"github.com/miekg/dns"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// selfSigned makes a certificate for IP addresses. It returns the names of its files, and what a client
// has to trust.
func selfSigned(t testing.TB, addrs ...string) (cert, key string, trust *tls.Config) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "failover test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	for _, a := range addrs {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(a))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool.AppendCertsFromPEM(chain)
	return write(t, "cert.pem", string(chain)), write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))),
		&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// Whatever a query comes over, the answer is the same.
func TestTransports(t *testing.T) {
	const dot, doh, overGRPC = "127.0.0.11", "127.0.0.12", "127.0.0.13"
	cert, key, trust := selfSigned(t, dot, doh, overGRPC)
	pool := upPool(t, "www.example.org")
	down := downPool(t, "gone.example.org", "fallback 192.0.2.66")
	secure := func(scheme, addr string) string {
		return scheme + "://" + blockOn(addr, "tls "+cert+" "+key, pool, down)
	}
	s := start(t, block(pool, down)+secure("tls", dot)+secure("https", doh)+secure("grpc", overGRPC))

	for transport, ask := range map[string]func(*testing.T, *dns.Msg) *dns.Msg{
		"UDP":            func(t *testing.T, m *dns.Msg) *dns.Msg { return exchange(t, s.udp(), "udp", m) },
		"TCP":            func(t *testing.T, m *dns.Msg) *dns.Msg { return exchange(t, s.tcp(), "tcp", m) },
		"DNS over TLS":   func(t *testing.T, m *dns.Msg) *dns.Msg { return overTLS(t, s.tcp(dot), trust, m) },
		"DNS over HTTPS": func(t *testing.T, m *dns.Msg) *dns.Msg { return overHTTPS(t, s.tcp(doh), trust, m) },
		"gRPC":           func(t *testing.T, m *dns.Msg) *dns.Msg { return overRPC(t, s.tcp(overGRPC), trust, m) },
	} {
		t.Run(transport, func(t *testing.T) {
			for range 3 {
				m := ask(t, question("wWw.example.org.", dns.TypeA))
				wantAddresses(t, m, usual...)
				if !m.Authoritative || len(m.Extra) > 0 || len(m.Answer) > 0 && m.Answer[0].Header().Name != "wWw.example.org." {
					t.Errorf("The answer is\n%v\nwant AA, the owner as asked, and no OPT", m)
				}
				wantNegative(t, ask(t, question("www.example.org.", dns.TypeTXT)), dns.RcodeSuccess, "example.org.", 60)
				wantNegative(t, ask(t, question("absent.example.org.", dns.TypeA)), dns.RcodeNameError, "example.org.", 60)
				m = ask(t, question("gone.example.org.", dns.TypeA).SetEdns0(1232, false))
				wantAddresses(t, m, "192.0.2.66")
				if e := ede(m); e == nil || e.InfoCode != dns.ExtendedErrorCodeOther {
					t.Errorf("The error that comes with the fallback is %v", e)
				}
			}
		})
	}
	for _, server := range []string{"dns://127.0.0.1:0", "tls://127.0.0.11:0", "https://127.0.0.12:0", "grpc://127.0.0.13:0"} {
		if n, ok := metric(t, "coredns_failover_answers_total", "server="+server, "pool=www.example.org.", "tier=0"); !ok || n < 3 {
			t.Errorf("%v answers are counted on %s, want at least 3", n, server)
		}
	}
}

func overTLS(t *testing.T, addr string, trust *tls.Config, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: "tcp-tls", TLSConfig: trust, Timeout: 5 * time.Second}
	r, _, err := c.Exchange(m, addr)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func overHTTPS(t *testing.T, addr string, trust *tls.Config, m *dns.Msg) *dns.Msg {
	t.Helper()
	body, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	resp, err := c.Post("https://"+addr+"/dns-query", "application/dns-message", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	r := new(dns.Msg)
	if err := r.Unpack(answer); err != nil {
		t.Fatalf("The HTTP answer is %s %q: %v", resp.Status, answer, err)
	}
	// The HTTP caches in between keep it for no longer than its TTL.
	if len(r.Answer) > 0 && !strings.HasPrefix(resp.Header.Get("Cache-Control"), "max-age=") {
		t.Errorf("Cache-Control is %q, want a max-age", resp.Header.Get("Cache-Control"))
	}
	return r
}

func overRPC(t *testing.T, addr string, trust *tls.Config, m *dns.Msg) *dns.Msg {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(trust)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := pb.NewDnsServiceClient(conn).Query(t.Context(), &pb.DnsPacket{Msg: packet})
	if err != nil {
		t.Fatal(err)
	}
	r := new(dns.Msg)
	if err := r.Unpack(answer.GetMsg()); err != nil {
		t.Fatal(err)
	}
	return r
}
