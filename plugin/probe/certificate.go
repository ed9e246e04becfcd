package probe

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"time"
)

// Certificate is the certificate of a member, as a probe saw it in the TLS handshake. The zero value is none.
type Certificate struct {
	NotAfter time.Time

	// ID tells a certificate from others: it is the start of its SHA-256 digest.
	ID [16]byte
}

// Expiry is how a probe treats the end of a certificate's validity.
type Expiry struct {
	// Period is the time before the end in which the certificate expires soon. It is 0 if the probe does not look.
	Period time.Duration

	// Fails means that the probe fails within the period. Otherwise it passes, and the server warns.
	Fails bool
}

// certificateKey is the key of a *Certificate in a context.
type certificateKey struct{}

// WithCertificate returns a context in which a probe writes the member's certificate to c. The probe does not write to c
// after it returns.
func WithCertificate(ctx context.Context, c *Certificate) context.Context {
	return context.WithValue(ctx, certificateKey{}, c)
}

// noteCertificate writes the certificate to the place that the context has for it.
func noteCertificate(ctx context.Context, leaf *x509.Certificate) {
	c, ok := ctx.Value(certificateKey{}).(*Certificate)
	if !ok {
		return
	}
	sum := sha256.Sum256(leaf.Raw)
	c.NotAfter = leaf.NotAfter
	copy(c.ID[:], sum[:])
}

// ExpiryOf returns how a probe treats the end of a certificate. ok is false if the probe sees no certificate.
func ExpiryOf(p Prober) (e Expiry, ok bool) {
	if c, isCaller := p.(calling); isCaller {
		p = c.Caller
	}
	var s *secure
	switch p := p.(type) {
	case *tlsProbe:
		s = &p.secure
	case *web:
		s = p.secure
	case *health:
		s = p.secure
	}
	if s == nil {
		return e, false
	}
	return s.expiry, true
}
