package test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"github.com/miekg/dns"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// followed starts a server for two members that a probe asks, the first of which fails when it is told
// to and comes back. The answer follows, and the reason is in the log.
func followed(t *testing.T, members [2]string, probe string, fail func(bool), reason string) {
	t.Helper()
	lines := record(t)
	s := start(t, block(fmt.Sprintf("failover www.example.org %s %s {\n probe %s\n interval 400ms\n recheck 50ms\n timeout 300ms\n}",
		members[0], members[1], probe)))
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2", "127.0.0.3")
	answers := func(want ...string) func() bool {
		return func() bool { return slices.Equal(addresses(s.ask("www.example.org.", dns.TypeA)), want) }
	}
	fail(true)
	eventually(t, bound, "the answer is the other member", answers("127.0.0.3"))
	want := "www.example.org. " + members[0] + ": up -> down (3 failures: " + reason + "); now answering 127.0.0.3"
	eventually(t, bound, "the log says "+want, func() bool { return len(lines(want)) == 1 })
	fail(false)
	eventually(t, bound, "the answer is both again", answers("127.0.0.2", "127.0.0.3"))
}

func TestProbeDNS(t *testing.T) {
	var refuses atomic.Bool
	var members [2]string
	for i, host := range []string{"127.0.0.2", "127.0.0.3"} {
		c, err := net.ListenPacket("udp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		members[i] = c.LocalAddr().String()
		s := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
			rcode := dns.RcodeSuccess
			if i == 0 && refuses.Load() {
				rcode = dns.RcodeRefused
			}
			w.WriteMsg(new(dns.Msg).SetRcode(r, rcode))
		})}
		done := make(chan error, 1)
		go func() { done <- s.ActivateAndServe() }()
		t.Cleanup(func() {
			s.Shutdown()
			<-done
		})
	}
	followed(t, members, "dns:///example.org?type=SOA", refuses.Store, "rcode REFUSED, want NOERROR")
}

func TestProbeGRPC(t *testing.T) {
	var members [2]string
	var services [2]*health.Server
	for i, host := range []string{"127.0.0.2", "127.0.0.3"} {
		l, err := net.Listen("tcp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		members[i], services[i] = l.Addr().String(), health.NewServer()
		services[i].SetServingStatus("my.pkg.Service", grpc_health_v1.HealthCheckResponse_SERVING)
		s := grpc.NewServer()
		grpc_health_v1.RegisterHealthServer(s, services[i])
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		t.Cleanup(func() {
			s.Stop()
			<-done
		})
	}
	followed(t, members, "grpc:///my.pkg.Service", func(down bool) {
		status := grpc_health_v1.HealthCheckResponse_SERVING
		if down {
			status = grpc_health_v1.HealthCheckResponse_NOT_SERVING
		}
		services[0].SetServingStatus("my.pkg.Service", status)
	}, "status NOT_SERVING, want SERVING")
}

// What a program is told is enough to tell the members apart.
func TestProbeExec(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "down")
	script := write(t, "check", `test "$FAILOVER_ADDRESS $FAILOVER_PORT $FAILOVER_NAME $1" = "127.0.0.2  www.example.org a b" || exit 0
test ! -e `+flag+` || { echo it is down >&2; exit 3; }
`)
	followed(t, [2]string{"127.0.0.2", "127.0.0.3"}, "exec:///bin/sh "+script+` "a b"`, func(down bool) {
		if err := os.Remove(flag); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
		if down {
			if err := os.WriteFile(flag, nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	}, "exit status 3: it is down")
}

// The kernel answers pings, or does not, so this has a network of its own: another process of this test.
// In it nobody may ping, at first.
func TestProbeICMP(t *testing.T) {
	if os.Getenv("FAILOVER_TEST_ALONE") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestProbeICMP$", "-test.v")
		cmd.Env = append(os.Environ(), "FAILOVER_TEST_ALONE=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		switch {
		case len(out) == 0 && err != nil:
			t.Skipf("no network of the test's own: %v", err)
		case bytes.Contains(out, []byte("--- SKIP")):
			t.Skipf("%s", out)
		case err != nil:
			t.Errorf("%v:\n%s", err, out)
		}
		return
	}
	corefile := block("failover www.example.org {\n primary 127.0.0.2\n backup ::1\n probe icmp://\n interval 400ms\n recheck 50ms\n timeout 100ms\n}")
	const refused = "Corefile:6 - Error during parsing: probe: icmp: the kernel does not let this process ping: net.ipv4.ping_group_range is "
	if _, err := attempt(t, corefile); err == nil || !strings.Contains(err.Error(), refused) {
		t.Errorf("Got error %v, want one that names the setting", err)
	}

	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	up := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{name: [syscall.IFNAMSIZ]byte{'l', 'o'}, flags: syscall.IFF_UP}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&up))); errno != 0 {
		t.Skip(errno)
	}
	set := func(name, value string) {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
			t.Skip(err)
		}
	}
	set("ping_group_range", "0 0")
	lines := record(t)
	s := start(t, corefile)
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2")
	set("icmp_echo_ignore_all", "1")
	eventually(t, bound, "the answer is the backup", func() bool {
		return slices.Equal(addresses(s.ask("www.example.org.", dns.TypeAAAA)), []string{"::1"})
	})
	want := "www.example.org. 127.0.0.2: up -> down (3 failures: timeout while reading); now answering ::1"
	eventually(t, bound, "the log says "+want, func() bool { return len(lines(want)) == 1 })
	set("icmp_echo_ignore_all", "0")
	eventually(t, bound, "the answer is the primary again", func() bool {
		return slices.Equal(addresses(s.ask("www.example.org.", dns.TypeA)), []string{"127.0.0.2"})
	})
}
