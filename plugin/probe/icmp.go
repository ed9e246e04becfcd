package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// echo asks whether a host answers a ping. It has a socket of its own for each, of the unprivileged
// kind: the kernel sorts the replies by their ID, which is the socket's port.
type echo struct{}

// A family is what is different about a ping over IPv4 and IPv6.
type family struct {
	network, any   string
	protocol       int
	request, reply icmp.Type
}

var (
	pingV4 = family{"udp4", "0.0.0.0", 1, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply}
	pingV6 = family{"udp6", "::", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply}
)

func parseICMP(l line) (Prober, error) {
	if err := l.hostless("icmp://"); err != nil {
		return nil, err
	}
	if l.port != 0 {
		return nil, fmt.Errorf("port %q in URL %q means nothing to icmp, want icmp://", l.url.Port(), l.word)
	}
	if err := l.bare(); err != nil {
		return nil, err
	}
	if err := l.read(nil); err != nil {
		return nil, err
	}
	return echo{}, mayPing()
}

// mayPing says why this process cannot ping at all.
func mayPing() error {
	c, err := pingV4.listen()
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		c, err = pingV6.listen() // there may be no IPv4 here
	}
	if err == nil {
		return c.Close()
	}
	if !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("icmp: cannot ping from here: %w", err)
	}
	allowed, _ := os.ReadFile("/proc/sys/net/ipv4/ping_group_range")
	return fmt.Errorf("icmp: the kernel does not let this process ping: net.ipv4.ping_group_range is %q, want its group %d in it",
		strings.Join(strings.Fields(string(allowed)), " "), os.Getegid())
}

// listen opens a socket for pings.
func (f family) listen() (*icmp.PacketConn, error) {
	// The socket is made without CLOEXEC, and made again with it: no program that is started in between
	// may get hold of the first.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return icmp.ListenPacket(f.network, f.any)
}

func (echo) Kind() string   { return "icmp" }
func (echo) String() string { return "icmp://" }

func (echo) Probe(ctx context.Context, target netip.AddrPort) error {
	addr := target.Addr().Unmap()
	if !addr.IsValid() {
		return fmt.Errorf("cannot ping %s, want an address", addr)
	}
	if err := ctx.Err(); err != nil {
		return plain(ctx, sending, err)
	}
	f := pingV6
	if addr.Is4() {
		f = pingV4
	}
	c, err := f.listen()
	if err != nil {
		return plain(ctx, "while opening a socket", err)
	}
	defer c.Close()
	defer endWith(ctx, c)()

	data := make([]byte, 32)
	rand.Read(data) // never fails
	asked := &icmp.Echo{ID: c.LocalAddr().(*net.UDPAddr).Port, Seq: int(binary.BigEndian.Uint16(data)), Data: data[2:]}
	packet, err := (&icmp.Message{Type: f.request, Body: asked}).Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(packet, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))); err != nil {
		return plain(ctx, sending, err)
	}
	return f.await(ctx, c, addr, asked)
}

// await waits for the reply to what was asked. Others may be somebody else's, or come late to an
// earlier ping: they are ignored.
func (f family) await(ctx context.Context, c *icmp.PacketConn, addr netip.Addr, asked *icmp.Echo) error {
	got := make([]byte, 256)
	for {
		n, from, err := c.ReadFrom(got)
		if err != nil {
			return plain(ctx, reading, err)
		}
		m, err := icmp.ParseMessage(f.protocol, got[:n])
		if err != nil || m.Type != f.reply || from.(*net.UDPAddr).AddrPort().Addr().Unmap() != addr {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == asked.ID && e.Seq == asked.Seq && bytes.Equal(e.Data, asked.Data) {
			return nil
		}
	}
}
