package test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// peer is a name server that is not CoreDNS. It listens on one address, over UDP and TCP.
type peer struct {
	t      testing.TB
	addr   string
	output bytes.Buffer // what it says; to be read once it has ended
	pid    int
	ended  chan struct{} // closed then
}

// place is where a peer lives: a folder of its own, and what it shall listen on.
type place struct{ dir, host, port string }

// file writes a file into the folder and returns its path.
func (p place) file(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// inFront are the arguments that keep a program in the foreground; its config file comes last.
var inFront = map[string][]string{
	"named":   {"-g", "-4", "-n", "1", "-c"},
	"nsd":     {"-d", "-4", "-c"},
	"knotd":   {"-c"},
	"unbound": {"-d", "-c"},
}

// startPeer starts a program with the config made for its place, and waits until it answers a question
// about a name with NOERROR. It ends with the test.
func startPeer(t testing.TB, program, host, name string, config func(place) string) *peer {
	t.Helper()
	needs(t, program)
	for range 5 { // somebody else may take the port
		at := place{t.TempDir(), host, portOf(t, host)}
		p := &peer{t: t, addr: net.JoinHostPort(host, at.port), ended: make(chan struct{})}
		p.run(program, append(inFront[program], at.file(t, program+".conf", config(at))))
		t.Cleanup(p.stop)
		within(bound, func() bool { return p.hasEnded() || p.answers(name) })
		if !p.hasEnded() && p.answers(name) {
			return p
		}
		p.stop()
		if said := p.output.String(); !strings.Contains(strings.ToLower(said), "address already in use") && !strings.Contains(said, "address in use") {
			t.Fatalf("%s does not answer. It says:\n%s", program, said)
		}
	}
	t.Fatalf("%s found no port", program)
	return nil
}

// run starts the program on a thread that waits for its end: should the tests die, the thread does,
// and the kernel tells the program to end, too.
func (p *peer) run(program string, args []string) {
	p.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.WaitDelay = 5 * time.Second
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
		close(p.ended)
	}()
	if err := <-started; err != nil {
		p.t.Fatalf("%s does not start: %v", program, err)
	}
	p.pid = cmd.Process.Pid
}

func (p *peer) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// answers says whether the peer knows a name by now.
func (p *peer) answers(name string) bool {
	c := &dns.Client{Timeout: time.Second}
	r, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeSOA), p.addr)
	return err == nil && r.Rcode == dns.RcodeSuccess
}

// stop ends the program and all that it has started. It may be called before the test ends.
func (p *peer) stop() {
	if p.pid == 0 {
		return
	}
	syscall.Kill(p.pid, syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(bound):
		p.t.Errorf("The peer on %s does not end", p.addr)
	}
	syscall.Kill(-p.pid, syscall.SIGKILL)
	<-p.ended
	p.pid = 0
}

// portOf finds a port of an address that nobody has, over UDP and TCP.
func portOf(t testing.TB, host string) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			u.Close()
			_, port, _ := net.SplitHostPort(l.Addr().String())
			return port
		}
	}
	t.Fatalf("There is no port for both UDP and TCP on %s", host)
	return ""
}

// authority starts BIND, NSD or Knot with example.org as text.
func authority(t testing.TB, program, host, zone string) *peer {
	t.Helper()
	return startPeer(t, program, host, "example.org.", func(at place) string {
		file := at.file(t, "db.example.org", zone)
		switch program {
		case "named":
			return fmt.Sprintf(`
options {
	directory "%s"; pid-file none; session-keyfile none;
	listen-on port %s { %s; }; listen-on-v6 { none; };
	recursion no; notify no; minimal-responses yes; zero-no-soa-ttl no; dnssec-validation no; answer-cookie no;
};
controls { };
zone "example.org" { type primary; file "%s"; };
`, at.dir, at.port, at.host, file)
		case "nsd":
			return fmt.Sprintf(`
server:
	ip-address: %[2]s@%[3]s
	username: "" 
	server-count: 1
	zonesdir: "%[1]s"
	database: ""
	pidfile: ""
	xfrdfile: "%[1]s/xfrd.state"
	zonelistfile: "%[1]s/zone.list"
	xfrdir: "%[1]s"
	rrl-ratelimit: 0
	rrl-whitelist-ratelimit: 0
	minimal-responses: yes
remote-control:
	control-enable: no
zone:
	name: example.org
	zonefile: "%[4]s"
`, at.dir, at.host, at.port, file)
		case "knotd":
			return fmt.Sprintf(`
server:
    rundir: "%[1]s"
    listen: %[2]s@%[3]s
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "%[1]s"
log:
  - target: stderr
    any: info
zone:
  - domain: example.org
    storage: "%[1]s"
    file: "%[4]s"
    zonefile-sync: -1
    journal-content: none
`, at.dir, at.host, at.port, file)
		}
		t.Fatalf("%s is no authority", program)
		return ""
	})
}
