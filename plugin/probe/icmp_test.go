//go:build linux

package probe

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/icmp"
)

// A host alone is a network namespace of this process's own, in which it may ping, and may make the
// kernel not answer.
const alone = "FAILOVER_TEST_ALONE"

// inNamespace runs a test again, in a process that has a network of its own. It returns true there.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(alone) != "" {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), alone+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if len(out) == 0 && err != nil {
		skip(t, "no network of the test's own: %v", err)
	}
	if bytes.Contains(out, []byte("--- SKIP: "+t.Name()+" (")) {
		skip(t, "%s", out)
	}
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	return false
}

// set writes a setting of the kernel's, for this network.
func set(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
		skip(t, "%v", err)
	}
}

// wire has the network's loopback interface up, and lets this process ping.
func wire(t *testing.T) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	request := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{name: [syscall.IFNAMSIZ]byte{'l', 'o'}, flags: syscall.IFF_UP}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		skip(t, "%v", errno)
	}
	set(t, "ipv4/ping_group_range", "0 0")
}

// Where the kernel lets this process ping, it can; where not, the Corefile is refused, with the reason.
func TestICMPAllowed(t *testing.T) {
	s, err := Parse([]string{"icmp://"}, "www.example.org", "")
	if err == nil {
		t.Log("pings are allowed here")
		wantError(t, ask(t, s, netip.MustParseAddrPort("127.0.0.1:0"), soon), "")
		return
	}
	t.Log("pings are not allowed here")
	text, _ := os.ReadFile("/proc/sys/net/ipv4/ping_group_range")
	wantError(t, err, fmt.Sprintf("icmp: the kernel does not let this process ping: net.ipv4.ping_group_range is %q, want its group %d in it",
		strings.Join(strings.Fields(string(text)), " "), os.Getegid()))
	wantError(t, ask(t, echo{}, netip.MustParseAddrPort("127.0.0.1:0"), soon), "permission denied while opening a socket")
}

func TestICMP(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	wantError(t, ask(t, echo{}, netip.MustParseAddrPort("127.0.0.1:0"), soon), "permission denied while opening a socket")
	wire(t)
	s := mustParse(t, "icmp://")
	v4, v6 := netip.MustParseAddrPort("127.0.0.2:80"), netip.MustParseAddrPort("[::1]:0")
	for _, member := range []netip.AddrPort{v4, v6} {
		target, err := s.Target(member)
		if err != nil || target != netip.AddrPortFrom(member.Addr(), 0) {
			t.Errorf("the target for %s is %s, %v", member, target, err)
		}
		wantError(t, ask(t, s, target, soon), "")
	}
	wantError(t, ask(t, s, netip.MustParseAddrPort("[::ffff:127.0.0.1]:0"), soon), "")
	wantError(t, ask(t, s, netip.MustParseAddrPort("192.0.2.1:0"), soon), "network is unreachable while sending")
	wantError(t, ask(t, s, netip.MustParseAddrPort("[2001:db8::1]:0"), soon), "network is unreachable while sending")
	wantError(t, ask(t, s, netip.AddrPort{}, soon), "cannot ping invalid IP, want an address")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, s.Probe(ctx, v4), "canceled while sending")

	var wg sync.WaitGroup
	for i := range 100 { // at once, each with its own reply
		wg.Go(func() { wantError(t, ask(t, s, []netip.AddrPort{v4, v6}[i%2], soon), "") })
	}
	wg.Wait()

	set(t, "ipv4/icmp_echo_ignore_all", "1")
	set(t, "ipv6/icmp/echo_ignore_all", "1")
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for _, member := range []netip.AddrPort{v4, v6} {
		wantError(t, ask(t, s, member, brief), "timeout while reading")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Millisecond, cancel)
		wantError(t, s.Probe(ctx, member), "canceled while reading")
	}
	nothingLeft(t, files, goroutines)
}

// Replies that are not to this ping are not taken for one.
func TestICMPSpoofed(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	wire(t)
	set(t, "ipv4/icmp_echo_ignore_all", "1")
	set(t, "ipv6/icmp/echo_ignore_all", "1")
	tests := map[string]struct {
		spoil func(*icmp.Echo)
		from  string
		want  string
	}{
		"right":            {func(*icmp.Echo) {}, "", ""},
		"other sequence":   {func(e *icmp.Echo) { e.Seq++ }, "", "timeout while reading"},
		"other data":       {func(e *icmp.Echo) { e.Data[0]++ }, "", "timeout while reading"},
		"less data":        {func(e *icmp.Echo) { e.Data = e.Data[:4] }, "", "timeout while reading"},
		"too much data":    {func(e *icmp.Echo) { e.Data = append(e.Data, make([]byte, 2000)...) }, "", "timeout while reading"},
		"no data":          {func(e *icmp.Echo) { e.Data = nil }, "", "timeout while reading"},
		"other ID":         {func(e *icmp.Echo) { e.ID++ }, "", "timeout while reading"},
		"from another":     {func(*icmp.Echo) {}, "127.0.0.3", "timeout while reading"},
		"wrong then right": {nil, "", ""},
	}
	for name, tc := range tests {
		for _, address := range []string{"127.0.0.2", "::1"} {
			if tc.from != "" && address == "::1" {
				continue // there is no other
			}
			t.Run(name+" "+address, func(t *testing.T) {
				f, network, from := pingV4, "ip4:icmp", tc.from
				if address == "::1" {
					f, network = pingV6, "ip6:ipv6-icmp"
				}
				if from == "" {
					from = address
				}
				answering(t, f, network, address, from, tc.spoil)
				timeout := soon
				if tc.want != "" {
					timeout = brief
				}
				wantError(t, ask(t, echo{}, netip.AddrPortFrom(netip.MustParseAddr(address), 0), timeout), tc.want)
			})
		}
	}
}

// answering has a host answer pings in place of the kernel, from another address maybe, and with what
// spoil makes of the reply. Without spoil it answers twice, rightly the second time.
func answering(t *testing.T, f family, network, address, from string, spoil func(*icmp.Echo)) {
	t.Helper()
	in, err := icmp.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	out, err := icmp.ListenPacket(network, from)
	if err != nil {
		t.Fatal(err)
	}
	say := func(e *icmp.Echo, to net.Addr) {
		b, err := (&icmp.Message{Type: f.reply, Body: e}).Marshal(nil)
		if err == nil {
			out.WriteTo(b, to)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 1500)
		for {
			n, to, err := in.ReadFrom(b)
			if err != nil {
				return
			}
			m, err := icmp.ParseMessage(f.protocol, b[:n])
			if err != nil || m.Type != f.request {
				continue
			}
			e := m.Body.(*icmp.Echo)
			if spoil != nil {
				spoil(e)
				say(e, to)
				continue
			}
			e.Seq--
			say(e, to)
			e.Seq++
			say(e, to)
		}
	})
	t.Cleanup(func() {
		in.Close()
		out.Close()
		wg.Wait()
	})
}
