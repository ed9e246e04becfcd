package probe

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// A Caller is a Prober that begins with a TCP connection to its target. Whoever asks many makes these with
// a [Dialer], and needs no goroutine for each that waits for one: most failures are that none is made.
type Caller interface {
	Prober

	// Talks says whether there is anything to ask over the connection. Else it is enough that there is one.
	Talks() bool

	// Talk is what Probe does once it is connected, with the same contract. It closes the connection.
	Talk(ctx context.Context, made net.Conn, target netip.AddrPort) error
}

// A Call is a connection that a [Dialer] is to make.
type Call struct {
	Target  netip.AddrPort
	Timeout time.Duration
	Keep    bool // the connection, which is closed as soon as there is one if not
	Who     any  // wants to know what becomes of it
}

// call is the Probe of a Caller by itself.
func call(ctx context.Context, target netip.AddrPort, p Caller) error {
	c, err := connect(ctx, target)
	if err != nil {
		return err
	}
	return p.Talk(ctx, c, target)
}

// A calling is a Caller that has its String at hand, as a question is a Prober.
type calling struct {
	Caller
	text  string
	watch bool
}

func (c calling) String() string { return c.text }

// Watches implements the Watching interface.
func (c calling) Watches() bool { return c.watch }
