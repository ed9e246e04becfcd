//go:build !linux

package probe

import "net"

// A Dialer is there on Linux only. Elsewhere a Caller has to make its connections itself.
type Dialer struct{}

// NewDialer returns nil.
func NewDialer(func(who any, c net.Conn, err error)) *Dialer { return nil }

// Dial begins to make the connections of calls.
func (*Dialer) Dial([]Call) {}

// Close breaks off what has been begun.
func (*Dialer) Close() {}
