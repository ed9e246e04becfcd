package probe

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

// Hold returns when the target ends the connection, whatever it has said before.
func TestHold(t *testing.T) {
	for family, address := range loopback {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Skipf("%s: %v", family, err)
		}
		defer l.Close()
		target := netip.MustParseAddrPort(l.Addr().String())
		for _, ends := range []func(net.Conn){
			func(c net.Conn) { c.Close() },
			func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() },
			func(c net.Conn) { c.Write(make([]byte, 1<<16)); c.Close() },
		} {
			held := make(chan bool, 1)
			go func() { held <- Hold(t.Context(), target) }()
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-held:
				t.Errorf("%s: it does not hold", family)
			case <-time.After(50 * time.Millisecond):
			}
			ends(c)
			select {
			case ok := <-held:
				if !ok {
					t.Errorf("%s: there was no connection", family)
				}
			case <-time.After(soon):
				t.Errorf("%s: it holds though the connection has ended", family)
			}
		}
		if Hold(t.Context(), serve(t, address, floods("", "A"))) {
			t.Errorf("%s: it takes a flood for the end of a connection", family)
		}
		if Hold(t.Context(), closedPort(t, address)) {
			t.Errorf("%s: it holds where nobody listens", family)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if began := time.Now(); !Hold(ctx, target) || time.Since(began) > soon {
			t.Errorf("%s: it does not end with its context", family)
		}
	}
}
