package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// tlsProbe asks whether a TLS handshake succeeds with a certificate that is good for the host and,
// if so told, whether the member says the right thing after it.
type tlsProbe struct {
	secure secure
	talk   talk
}

func parseTLS(l line) (Prober, error) {
	p := new(tlsProbe)
	if err := l.bare(); err != nil {
		return nil, err
	}
	options := p.secure.options(l)
	maps.Copy(options, p.talk.options())
	if err := l.read(options); err != nil {
		return nil, err
	}
	host, err := l.host(!p.secure.config.InsecureSkipVerify && !p.secure.ofAddress)
	if err != nil {
		return nil, err
	}
	if err := p.secure.finish(host); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *tlsProbe) Kind() string { return "tls" }

func (p *tlsProbe) String() string {
	return "tls://" + p.secure.config.ServerName + p.talk.String() + p.secure.String()
}

func (p *tlsProbe) Probe(ctx context.Context, target netip.AddrPort) error {
	return call(ctx, target, p)
}

// Talks implements the Caller interface.
func (p *tlsProbe) Talks() bool { return true }

// Talk implements the Caller interface.
func (p *tlsProbe) Talk(ctx context.Context, made net.Conn, target netip.AddrPort) error {
	c := bind(ctx, made)
	defer c.Close()

	asked := false // for our certificate
	config := p.secure.config.Clone()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		return &p.secure.cert, nil
	}
	t, err := p.secure.shake(ctx, c, config, target)
	if err != nil {
		return err
	}
	if err := p.talk.on(ctx, t); err != nil {
		return err
	}
	if asked && p.talk.expect == nil {
		return verdict(ctx, t)
	}
	return nil
}

// verdict is what the member makes of our certificate, or of our having none. Since TLS 1.3 it
// comes after the handshake, and only if it is bad; so we say goodbye and see what is said to that.
func verdict(ctx context.Context, t session) error {
	if t.ConnectionState().Version < tls.VersionTLS13 {
		return nil
	}
	if err := t.CloseWrite(); err != nil {
		return plain(ctx, sending, err)
	}
	if n, err := t.Read(make([]byte, 1)); n == 0 && err != io.EOF {
		return plain(ctx, reading, err)
	}
	return nil
}

// secure is how to shake hands. Nothing in it changes once a probe is parsed.
type secure struct {
	config    *tls.Config
	cert      tls.Certificate // the client's; without content if there is none
	expiry    Expiry
	ofAddress bool // the certificate has to have the member's own address, and not the host

	ca, pair string // digests of the files; empty: none
}

// options are the options of all kinds that shake hands.
func (s *secure) options(l line) map[string]option {
	s.config = &tls.Config{MinVersion: tls.VersionTLS12}
	return map[string]option{
		"insecure": {set: func([]string) error {
			s.config.InsecureSkipVerify = true
			return nil
		}},
		"ca": {takes: []string{"FILE"}, set: func(args []string) error {
			text, err := l.readFile("ca", args[0])
			if err != nil {
				return err
			}
			s.ca = digest(text)
			if s.config.RootCAs, err = roots(text); err != nil {
				return fmt.Errorf("ca %q: %w", args[0], err)
			}
			return nil
		}},
		"cert": {takes: []string{"FILE", "KEYFILE"}, set: func(args []string) error {
			return s.readCert(l, args[0], args[1])
		}},
		"expires": {takes: []string{"DURATION"}, may: "fail", set: func(args []string) (err error) {
			s.expiry.Period, err = duration("expires", args[0])
			s.expiry.Fails = len(args) > 1
			return err
		}},
		"verify": {takes: []string{"address"}, set: func(args []string) error {
			if args[0] != "address" {
				return fmt.Errorf("verify %q, want address, or no verify to verify the host", args[0])
			}
			s.ofAddress = true
			return nil
		}},
	}
}

// readCert makes the pair of files the client's certificate. It is sent whatever authorities the
// member says it trusts: what the member then says is clearer than that none was sent.
func (s *secure) readCert(l line, file, keyFile string) error {
	cert, err := l.readFile("cert", file)
	if err != nil {
		return err
	}
	key, err := l.readFile("cert", keyFile)
	if err != nil {
		return err
	}
	if s.cert, err = tls.X509KeyPair(cert, key); err != nil {
		return fmt.Errorf("cert %q %q: %w", file, keyFile, err)
	}
	s.pair = digest(cert) + " " + digest(key)
	s.config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &s.cert, nil
	}
	return nil
}

// roots are the certificates in text, of which there must be one at least.
func roots(text []byte) (*x509.CertPool, error) {
	pool, found := x509.NewCertPool(), false
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		pool.AddCert(cert)
		found = true
	}
	if !found {
		return nil, errors.New("no certificate in it, want PEM")
	}
	return pool, nil
}

// finish is called when all options have been read; host may be empty if nothing is verified.
func (s *secure) finish(host string) error {
	if s.config.InsecureSkipVerify && s.ca != "" {
		return errors.New(`"ca" with "insecure", want one of them: nothing is verified`)
	}
	if s.config.InsecureSkipVerify && s.ofAddress {
		return errors.New(`"verify" with "insecure", want one of them: nothing is verified`)
	}
	s.config.ServerName = host
	return nil
}

// String is the options in canonical form, each with a blank before it. The host is not in it.
func (s *secure) String() string {
	var b strings.Builder
	if s.config.InsecureSkipVerify {
		b.WriteString(" insecure")
	}
	if s.ca != "" {
		b.WriteString(" ca " + s.ca)
	}
	if s.pair != "" {
		b.WriteString(" cert " + s.pair)
	}
	if s.ofAddress {
		b.WriteString(" verify address")
	}
	if s.expiry.Period > 0 {
		b.WriteString(" expires " + s.expiry.Period.String())
	}
	if s.expiry.Fails {
		b.WriteString(" fail")
	}
	return b.String()
}

// shake shakes hands on c and looks at the certificate. Config is s.config, or made from it. What
// comes back needs no closing but that of c: a probe takes no leave.
func (s *secure) shake(ctx context.Context, c *conn, config *tls.Config, target netip.AddrPort) (session, error) {
	if s.ofAddress {
		config = verifyingAddress(config, target.Addr())
	}
	t := session{tls.Client(c, config)}
	// Not HandshakeContext: c ends with ctx anyhow, without another goroutine.
	if err := t.Handshake(); err != nil {
		return t, s.refusal(plain(ctx, handshaking, err), err, target)
	}
	leaf := t.ConnectionState().PeerCertificates[0]
	noteCertificate(ctx, leaf)
	if !s.expiry.Fails {
		return t, nil
	}
	left := time.Until(leaf.NotAfter)
	switch {
	case left <= 0:
		return t, fmt.Errorf("certificate expired %s ago, want %s or more left", short(-left), short(s.expiry.Period))
	case left < s.expiry.Period:
		return t, fmt.Errorf("certificate expires in %s, want %s or more", short(left), short(s.expiry.Period))
	}
	return t, nil
}

// verifyingAddress returns a config that verifies the certificate against an address. The host stays the name in the SNI,
// because an address cannot stand there (RFC 6066, section 3).
func verifyingAddress(config *tls.Config, addr netip.Addr) *tls.Config {
	config = config.Clone()
	config.InsecureSkipVerify = true // #nosec G402 -- VerifyConnection verifies
	config.VerifyConnection = func(state tls.ConnectionState) error {
		intermediates := x509.NewCertPool()
		for _, cert := range state.PeerCertificates[1:] {
			intermediates.AddCert(cert)
		}
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
			DNSName: addr.String(), Roots: config.RootCAs, Intermediates: intermediates,
		})
		if err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
		}
		return nil
	}
	return config
}

// refusal returns the reason of a handshake that failed with err, with the option that helps if there is one. why is the
// reason in general words.
func (s *secure) refusal(why, err error, target netip.AddrPort) error {
	var name x509.HostnameError
	var remote *net.OpError
	switch {
	case errors.As(err, &remote) && remote.Op == "remote error" && strings.HasSuffix(remote.Error(), "no application protocol"): // RFC 7301, section 3.2
		return fmt.Errorf("no protocol in common %s (ALPN): the probe offers %s", handshaking, strings.Join(s.config.NextProtos, ", "))
	case errors.As(err, &name) && !s.ofAddress && hasAddress(name.Certificate, target.Addr()):
		return fmt.Errorf("%w; it is valid for the address %s, which the option verify address verifies", why, target.Addr())
	}
	return why
}

// hasAddress reports whether a certificate is valid for an address.
func hasAddress(cert *x509.Certificate, addr netip.Addr) bool {
	return cert.VerifyHostname(addr.String()) == nil
}

// A session is a TLS connection that knows why nothing more can be written to it: the other side may
// have sent an alert, which waits to be read, before it closed.
type session struct{ *tls.Conn }

func (s session) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	return n, s.alert(err)
}

func (s session) CloseWrite() error { return s.alert(s.Conn.CloseWrite()) }

// alert is the alert that has come in, or else the error of writing.
func (s session) alert(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	var op *net.OpError
	if _, alert := s.Read(make([]byte, 1)); errors.As(alert, &op) && op.Op == "remote error" {
		return alert
	}
	return err
}

// short is d without the zeros that time.Duration ends in, and without seconds if there are hours.
func short(d time.Duration) string {
	d = d.Truncate(time.Second)
	if d >= time.Hour {
		d = d.Truncate(time.Minute)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
