package probe

import (
	"context"
	"net"
	"net/netip"
)

// Watching is a Prober whose targets are to be watched between probes: as soon as a connection to one ends that has
// nothing to do, it is worth a probe.
type Watching interface {
	Prober

	// Watches says whether that was asked for.
	Watches() bool
}

// holder sends keep-alives, as package net does by default: a host that has gone without a word is found out, too.
var holder net.Dialer

// Hold connects to target, and says whether it could. Then it returns when the connection has ended, or ctx has. What
// the target has to say is thrown away; one that says more than 64 KiB is let go, as if there had been no connection.
func Hold(ctx context.Context, target netip.AddrPort) bool {
	if dialable(target) != nil {
		return false
	}
	made, err := holder.DialTCP(ctx, "tcp", netip.AddrPort{}, target)
	if err != nil {
		return false
	}
	made.SetLinger(0)
	c := bind(ctx, made)
	defer c.Close()
	heard := make([]byte, 512)
	for left := maxText; left >= 0; {
		n, err := c.Read(heard)
		if err != nil {
			return true
		}
		left -= n
	}
	return false
}
