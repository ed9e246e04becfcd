package test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// nameserver is a BIND of a test's own.
type nameserver struct {
	*daemon
	port string
	addr string // with its port
	dir  string // its working directory, where the files are that it was given and those that it makes
}

// bind starts a BIND on home, on a port of its own, and waits until it has an answer for a name and type.
// options and statements are parts of its configuration, and files are put into its working directory, by
// their names. Home is the one address it can have: it listens on those only that an interface has been given.
//
//	bind(t, "allow-transfer { any; };",
//	    `zone example.org { type primary; file "db.example.org"; };`,
//	    map[string]string{"db.example.org": zoneFile}, "example.org.", dns.TypeSOA)
//
// It transfers nothing, tells nobody of changes and asks nobody unless the configuration says so.
func bind(t testing.TB, options, statements string, files map[string]string, name string, qtype uint16) *nameserver {
	t.Helper()
	needs(t, "named")
	n := &nameserver{port: lowPort(t, home), dir: t.TempDir()}
	n.addr = net.JoinHostPort(home, n.port)
	conf := fmt.Sprintf(`options {
    directory %q;
    listen-on port %s { %s; };
    listen-on-v6 { none; };
    query-source address %s;
    pid-file none;
    session-keyfile none;
    managed-keys-directory %q;
    empty-zones-enable no;
    %s
};
controls { };
%s
`, n.dir, n.port, home, home, n.dir, defaults(options,
		"recursion no", "dnssec-validation no", "allow-transfer { none; }", "notify no"), statements)
	for file, content := range files {
		n.put(t, file, content)
	}
	n.put(t, "named.conf", conf)
	n.daemon = beside(t, "named", "-g", "-n", "1", "-c", filepath.Join(n.dir, "named.conf"))
	c := &dns.Client{Timeout: 500 * time.Millisecond}
	eventually(t, 20*time.Second, "BIND answers for "+name, func() bool {
		if n.hasEnded() {
			t.Fatalf("BIND has ended:\n%s", n.said)
		}
		m, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, qtype), n.addr)
		return err == nil && m.Rcode == dns.RcodeSuccess && len(m.Answer) > 0
	})
	return n
}

// lowPort is a port of an address that nobody listens on, and that is never given to those that ask for any port. BIND
// and CoreDNS listen in a way that lets others of the same user listen on the same port, so that with one of those
// a CoreDNS of another test could get it, too, and every second query.
func lowPort(t testing.TB, host string) string {
	t.Helper()
	for range 100 {
		addr := net.JoinHostPort(host, strconv.Itoa(10000+rand.IntN(20000)))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		p, err := net.ListenPacket("udp", addr)
		l.Close()
		if err == nil {
			p.Close()
			_, port, _ := net.SplitHostPort(addr)
			return port
		}
	}
	t.Fatal("There is no free port")
	return ""
}

// put makes a file in BIND's working directory, or another of what it had in it.
func (n *nameserver) put(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// defaults adds to options those of a list that they do not have.
func defaults(options string, list ...string) string {
	for _, option := range list {
		if word, _, _ := strings.Cut(option, " "); !strings.Contains(options, word+" ") {
			options += "\n    " + option + ";"
		}
	}
	return options
}

// It is a BIND, and it ends.
func TestBIND(t *testing.T) {
	var n *nameserver
	t.Run("runs", func(t *testing.T) {
		n = bind(t, "", `zone example.org { type primary; file "db.example.org"; };`,
			map[string]string{"db.example.org": zoneFile}, "example.org.", dns.TypeSOA)
		wantAddresses(t, exchange(t, n.addr, "tcp", question("mail.example.org.", dns.TypeA)), "192.0.2.25")
	})
	if n != nil && !n.hasEnded() {
		t.Error("BIND goes on after its test")
	}
}
