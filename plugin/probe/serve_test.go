package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// soon is long enough for anything that is not waiting for the other side.
const soon = 5 * time.Second

// brief is the timeout of probes that are to run into it.
const brief = 100 * time.Millisecond

var loopback = map[string]string{"v4": "127.0.0.1:0", "v6": "[::1]:0"}

// serve has handle meet every connection to a listener; both are gone when the test ends.
func serve(t testing.TB, address string, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				done := make(chan struct{})
				wg.Go(func() {
					select {
					case <-over:
					case <-done:
					}
					c.Close()
				})
				defer close(done)
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(over)
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// closedPort is an address nobody listens on.
func closedPort(t testing.TB, address string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// silent says nothing until the other side is gone.
func silent(c net.Conn) { io.Copy(io.Discard, c) }

// says returns a handler that says text, and then nothing.
func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, text)
		silent(c)
	}
}

// drips returns a handler that says text a byte at a time, for ever.
func drips(text string) func(net.Conn) {
	return func(c net.Conn) {
		for i := 0; ; i++ {
			if _, err := c.Write([]byte{text[i%len(text)]}); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// floods returns a handler that says first, and then text for ever.
func floods(first, text string) func(net.Conn) {
	text = strings.Repeat(text, 1+4096/len(text))
	return func(c net.Conn) {
		_, err := io.WriteString(c, first)
		for err == nil {
			_, err = io.WriteString(c, text)
		}
	}
}

// resets ends the connection with a reset, but not before the other side knows that there is one.
func resets(c net.Conn) {
	time.Sleep(30 * time.Millisecond)
	c.(*net.TCPConn).SetLinger(0)
}

// hangsUp ends the connection.
func hangsUp(net.Conn) {}

// mustParse is Parse of a line that is right, for the pool www.example.org.
func mustParse(t testing.TB, words ...string) Spec {
	t.Helper()
	s, err := Parse(words, "www.example.org", "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask probes target, and sees that it does not take longer than the timeout.
func ask(t *testing.T, p Prober, target netip.AddrPort, timeout time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	begun := time.Now()
	err := p.Probe(ctx, target)
	if took := time.Since(begun); took > timeout+time.Second {
		t.Errorf("took %s, with a timeout of %s", took, timeout)
	}
	return err
}

// wantError compares an error with its text; no text is no error. What stands behind "..." at the
// end of want is not compared.
func wantError(t *testing.T, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	begin, open := strings.CutSuffix(want, "...")
	if got != want && (!open || !strings.HasPrefix(got, begin)) {
		t.Errorf("got error %q, want %q", got, want)
	}
}

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// trusted signs what is to be trusted, other what is not.
var (
	trusted = sync.OnceValue(func() authority { return newAuthority("trusted") })
	other   = sync.OnceValue(func() authority { return newAuthority("other") })
)

func newAuthority(name string) authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-240 * time.Hour), NotAfter: time.Now().Add(240 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// sign is a certificate for name that is good for the time left, and its PEM.
func (a authority) sign(name string, left time.Duration) (cert tls.Certificate, certPEM, keyPEM []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-200 * time.Hour), NotAfter: time.Now().Add(left),
	}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		panic(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	cert, err = tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		panic(err)
	}
	return cert, certPEM, keyPEM
}

// file writes text to a file and returns its name.
func file(t testing.TB, text []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// serveTLS has handle meet every connection after the handshake. What clients say hello with goes to
// hello, if that is not nil.
func serveTLS(t testing.TB, address string, config *tls.Config, hello chan<- tls.ClientHelloInfo, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	config = config.Clone()
	config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello != nil {
			hello <- *h
		}
		return nil, nil
	}
	return serve(t, address, func(c net.Conn) {
		s := tls.Server(c, config)
		if s.Handshake() == nil {
			handle(s)
		}
		s.Close()
	})
}

// fullPort is an address whose listener takes no more connections, and says nothing about it.
func fullPort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := listenShort()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { l.Close() })
	for range 100 {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 50*time.Millisecond)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
			return l.Addr().(*net.TCPAddr).AddrPort()
		}
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("a listener takes any number of connections here")
	return netip.AddrPort{}
}

// benchmark asks target again and again.
func benchmark(b *testing.B, target netip.AddrPort, words ...string) {
	b.Helper()
	p := mustParse(b, words...)
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Probe(ctx, target); err != nil {
			b.Fatal(err)
		}
	}
}
