package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// What a probe was about when it failed.
const (
	connecting  = "while connecting"
	handshaking = "in the TLS handshake"
	sending     = "while sending"
	reading     = "while reading"
)

// dialer sends no keep-alives: none would be due before the probe is over, and to set them up is
// another four system calls.
var dialer = net.Dialer{KeepAlive: -1}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// A conn is a connection that lives as long as a probe.
type conn struct {
	net.Conn
	forget func() bool // stops waiting for the end of the context
}

// dial connects to target. All reading and writing on the connection ends when ctx does. The caller
// closes it; the error is fit to be returned by a Prober.
func dial(ctx context.Context, target netip.AddrPort) (*conn, error) {
	c, err := connect(ctx, target)
	if err != nil {
		return nil, err
	}
	return bind(ctx, c), nil
}

// connect makes a connection to target that is reset when it is closed: it would otherwise be remembered
// for a minute (TIME_WAIT), here or at the member, and a thousand probes a second use up all ports.
func connect(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
	if err := dialable(target); err != nil {
		return nil, err
	}
	c, err := dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, target)
	if err != nil {
		return nil, plain(ctx, connecting, err)
	}
	c.SetLinger(0)
	return c, nil
}

// dialable says what is wrong with a target: package net would dial the local host.
func dialable(target netip.AddrPort) error {
	if target.Addr().IsValid() && target.Port() != 0 {
		return nil
	}
	return fmt.Errorf("cannot dial %s, want an address and a port", target)
}

// bind has a connection end with ctx.
func bind(ctx context.Context, c net.Conn) *conn { return &conn{c, endWith(ctx, c)} }

// endWith ends all reading and writing on c when ctx ends, until it is told to forget about it.
func endWith(ctx context.Context, c interface{ SetDeadline(time.Time) error }) (forget func() bool) {
	if deadline, ok := ctx.Deadline(); ok {
		c.SetDeadline(deadline)
	}
	// After the deadline, not before: it must not replace the one a cancellation has set.
	return context.AfterFunc(ctx, func() { c.SetDeadline(longAgo) })
}

// Close is the end of the probe, too.
func (c *conn) Close() error {
	c.forget()
	return c.Conn.Close()
}

// plain is err, met while a probe did something, in words for an operator who knows the address
// already, and cut to a length and to letters that are fit for a log.
func plain(ctx context.Context, doing string, err error) error {
	var (
		timeout  net.Error
		errno    syscall.Errno
		verify   *tls.CertificateVerificationError
		timedOut = errors.As(err, &timeout) && timeout.Timeout()
	)
	switch {
	case isOurs(err):
		return fmt.Errorf("%w: %w", ErrNotAsked, err)
	case errors.Is(err, context.Canceled), timedOut && errors.Is(ctx.Err(), context.Canceled):
		return errors.New("canceled " + doing)
	case timedOut:
		return errors.New("timeout " + doing)
	case errors.As(err, &errno) && doing == connecting:
		return errno
	case errors.As(err, &errno):
		return fmt.Errorf("%w %s", errno, doing)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("connection closed " + doing)
	case errors.As(err, &verify):
		err = verify.Err
	}
	if text := err.Error(); legible(text) != text {
		return errors.New(legible(text))
	}
	return err
}

// isOurs says whether it is for want of descriptors or memory here that a probe has failed, which says nothing of the
// member.
func isOurs(err error) bool {
	return slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM}, func(want error) bool { return errors.Is(err, want) })
}

// legible is text, some of which the other side may have chosen, without the letters that do
// something to a terminal, and not longer than is good for a log.
func legible(text string) string {
	const most = 500
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// quote is what was received as an error message shows it: its beginning.
func quote(got []byte) string {
	const most = 80
	switch {
	case len(got) == 0:
		return "nothing"
	case len(got) > most:
		return fmt.Sprintf("%s... (%d bytes)", strconv.QuoteToASCII(string(got[:most])), len(got))
	}
	return strconv.QuoteToASCII(string(got))
}
