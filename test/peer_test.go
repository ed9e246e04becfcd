package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// peer is a name server that is not CoreDNS. It listens on one address, over UDP and TCP.
type peer struct {
	*daemon
	addr string
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
	at := place{t.TempDir(), host, lowPort(t, host)}
	p := &peer{addr: net.JoinHostPort(host, at.port)}
	p.daemon = beside(t, program, append(inFront[program], at.file(t, program+".conf", config(at)))...)
	c := &dns.Client{Timeout: time.Second}
	eventually(t, bound, program+" answers for "+name, func() bool {
		if p.hasEnded() {
			t.Fatalf("%s has ended:\n%s", program, p.said)
		}
		r, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeSOA), p.addr)
		return err == nil && r.Rcode == dns.RcodeSuccess
	})
	return p
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
