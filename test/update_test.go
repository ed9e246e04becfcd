package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// updateZone is the zone that is written to, before anybody has. One of its names is a pool's.
const updateZone = `$ORIGIN example.org.
@    300 IN SOA ns hostmaster 1 7200 1800 86400 300
@    300 IN NS  ns
ns   300 IN A   192.0.2.53
old  300 IN A   192.0.2.80
www  300 IN TXT "of the zone file"
`

const updateKey, updateSecret = "failover.example.org", "c2VjcmV0IG9mIGZhaWxvdmVyIGZvciB0ZXN0cyBvbmx5"

// shown is the block of the README that begins with a text.
func shown(t testing.TB, begins string) string {
	t.Helper()
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?ms)^~~~ \S+\n(` + regexp.QuoteMeta(begins) + `.*?)^~~~$`).FindSubmatch(page)
	if m == nil {
		t.Fatalf("README.md has no block that begins with %q", begins)
	}
	return string(m[1])
}

// swap replaces one text by another, which has to be there.
func swap(t testing.TB, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("There is no %q in\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// bindPrimary is the README's named.conf in its place, with more options.
func bindPrimary(t testing.TB, at place, options string) string {
	t.Helper()
	at.file(t, "db.example.org", updateZone)
	return swap(t, shown(t, "options {\n    directory \"/var/cache/bind\";\n    listen-on { 192.0.2.53; };\n"), "/var/cache/bind", at.dir,
		"listen-on { 192.0.2.53; };", fmt.Sprintf("listen-on port %s { %s; }; listen-on-v6 { none; }; pid-file none; session-keyfile none; managed-keys-directory %q; dnssec-validation no; empty-zones-enable no; %s",
			at.port, at.host, at.dir, defaults(options, "notify no"))) + "controls { };\n"
}

// knotPrimary is the README's knot.conf in its place.
func knotPrimary(t testing.TB, at place) string {
	t.Helper()
	at.file(t, "db.example.org", updateZone)
	return swap(t, shown(t, "server:\n    listen: 192.0.2.53@53\n"), "/var/lib/knot", fmt.Sprintf("%q", at.dir),
		"listen: 192.0.2.53@53", fmt.Sprintf("listen: %s@%s\n    rundir: %q\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1", at.host, at.port, at.dir)) +
		fmt.Sprintf("database:\n    storage: %q\n", at.dir)
}

// bindServer starts a BIND as the README has it, and returns its address.
func bindServer(t testing.TB) string {
	t.Helper()
	return startPeer(t, "named", home, "example.org.", func(at place) string { return bindPrimary(t, at, "") }).addr
}

// knotServer starts a Knot.
func knotServer(t testing.TB) string {
	t.Helper()
	return startPeer(t, "knotd", "127.0.0.53", "example.org.", func(at place) string { return knotPrimary(t, at) }).addr
}

// coreServer starts a CoreDNS with dynupdate.
func coreServer(t testing.TB) string {
	t.Helper()
	s := start(t, swap(t, shown(t, "example.org:53 {\n    bind 192.0.2.53\n"), "example.org:53", "example.org:0", "192.0.2.53", "127.0.0.53",
		"file db.example.org", "file "+write(t, "db.example.org", updateZone),
		"database example.org.db", "database "+filepath.Join(t.TempDir(), "example.org.db")))
	return s.tcp("127.0.0.53")
}

// writer is a server block that writes to a primary, with pools.
func writer(server string, pools ...string) string {
	return writerAs(server, updateKey, updateSecret, pools...)
}

// writerAs is writer with a key and its secret.
func writerAs(server, key, secret string, pools ...string) string {
	return block(append([]string{
		"tsig {", "    secret " + key + ". " + secret, "}",
		"failover {", "    update " + server + " example.org " + key, "    interval 200ms", "    recheck 20ms", "}",
	}, pools...)...)
}

// pair is a pool of one member and a backup, with more properties.
func pair(name string, hosts []*host, properties ...string) string {
	return fmt.Sprintf("failover %s %s {\n backup %s\n %s\n}", name, hosts[0], hosts[1], strings.Join(properties, "\n"))
}

// found is the data of the records of a primary, sorted.
func found(t testing.TB, server, name string, qtype uint16) string {
	t.Helper()
	c := &dns.Client{Net: "tcp", Timeout: 2 * time.Second}
	r, _, err := c.Exchange(question(name, qtype), server)
	if err != nil {
		return err.Error()
	}
	var data []string
	for _, rr := range r.Answer {
		data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(data)
	return strings.Join(data, " ")
}

// comes waits until a primary has records.
func comes(t testing.TB, server, name string, qtype uint16, want string) {
	t.Helper()
	if !within(bound, func() bool { return found(t, server, name, qtype) == want }) {
		t.Fatalf("%s has %s %s %q, want %q", server, name, dns.TypeToString[qtype], found(t, server, name, qtype), want)
	}
}

// nsupdate sends what the lines say.
func nsupdate(t testing.TB, server string, lines ...string) {
	t.Helper()
	needs(t, "nsupdate")
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("nsupdate", "-v", "-y", "hmac-sha256:"+updateKey+":"+updateSecret)
	c.Stdin = strings.NewReader("server " + host + " " + port + "\nlocal " + home + "\nzone example.org\n" + strings.Join(lines, "\n") + "\nsend\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("nsupdate: %v\n%s", err, out)
	}
}

// On each kind of primary: a member dies and returns, and the primary's answer follows. What is not ours stays, until
// it is handed over in the way that the log says.
func TestUpdate(t *testing.T) {
	for kind, run := range map[string]func(testing.TB) string{"BIND": bindServer, "Knot": knotServer, "CoreDNS": coreServer} {
		t.Run(kind, func(t *testing.T) {
			lines := record(t)
			hosts := members(t, "127.0.0.2", "127.0.0.3")
			server := run(t)
			corefile := writer(server, pair("www.example.org *.apps.example.org example.org", hosts), pair("old.example.org", hosts),
				pair("all.example.org", append(members(t, "::1"), hosts[1]), "srv http", "https alpn=h2", "fallback none"))
			s := start(t, corefile)
			for _, name := range []string{"www.example.org.", "any.apps.example.org.", "example.org."} {
				comes(t, server, name, dns.TypeA, "127.0.0.2")
			}
			comes(t, server, "all.example.org.", dns.TypeAAAA, "::1")
			comes(t, server, "_http._tcp.all.example.org.", dns.TypeSRV, fmt.Sprintf("0 1 %s 0--1.all.example.org. 1 1 %s 127-0-0-3.all.example.org.", portOf(t, allHost(corefile)), portOf(t, hosts[1].addr)))
			comes(t, server, "127-0-0-3.all.example.org.", dns.TypeA, "127.0.0.3")

			hosts[0].stop()
			for _, name := range []string{"www.example.org.", "any.apps.example.org.", "example.org."} {
				comes(t, server, name, dns.TypeA, "127.0.0.3")
			}
			hosts[0].start()
			for _, name := range []string{"www.example.org.", "any.apps.example.org.", "example.org."} {
				comes(t, server, name, dns.TypeA, "127.0.0.2")
			}
			comes(t, server, "www.example.org.", dns.TypeTXT, `"of the zone file"`)

			comes(t, server, "old.example.org.", dns.TypeA, "192.0.2.80")
			foreign := lines("update of old.example.org. at " + server + ": it is not ours")
			if len(foreign) != 1 {
				t.Fatalf("The log has %q of a name that is not ours, want one line", foreign)
			}
			soa := found(t, server, "example.org.", dns.TypeSOA)
			if err := s.reload(corefile); err != nil {
				t.Fatal(err)
			}
			eventually(t, bound, "the names have been compared", func() bool {
				n, ok := metric(t, "coredns_failover_updates_pending", "server="+server)
				return ok && n == 0 && len(lines("it is not ours")) == 2
			})
			if now := found(t, server, "example.org.", dns.TypeSOA); now != soa {
				t.Errorf("The SOA is %s after a comparison, want %s as before", now, soa)
			}
			_, line, _ := strings.Cut(foreign[0], "have nsupdate say: ")
			nsupdate(t, server, line)
			if err := s.reload(corefile); err != nil { // which compares, and does not wait
				t.Fatal(err)
			}
			comes(t, server, "old.example.org.", dns.TypeA, "127.0.0.2")
			hosts[0].stop()
			comes(t, server, "old.example.org.", dns.TypeA, "127.0.0.3")
			if n, _ := metric(t, "coredns_failover_updates_pending", "server="+server, "zone=example.org."); n != 0 && !within(bound, func() bool {
				n, _ := metric(t, "coredns_failover_updates_pending", "server="+server, "zone=example.org.")
				return n == 0
			}) {
				t.Errorf("%v updates are pending", n)
			}
			s.stop()
			if n, ok := metric(t, "coredns_failover_updates_total", "server="+server); ok {
				t.Errorf("%v updates are counted after the server's end", n)
			}
			comes(t, server, "old.example.org.", dns.TypeA, "127.0.0.3")
		})
	}
}

// allHost is the first member of the pool all in a Corefile.
func allHost(corefile string) string {
	return regexp.MustCompile(`failover all\S+ (\S+) `).FindStringSubmatch(corefile)[1]
}

func portOf(t testing.TB, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// What the primary has against a message is told apart, counted, and in the log once.
func TestUpdateRefused(t *testing.T) {
	server := bindServer(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	for _, tc := range []struct{ name, corefile, result, said string }{
		{"another key", writerAs(server, "other.example.org", updateSecret, pair("www.example.org", hosts)), "badkey", "the key other.example.org. with hmac-sha256"},
		{"another secret", writerAs(server, updateKey, "d3Jvbmc=", pair("www.example.org", hosts)), "badsig", "NOTAUTH (BADSIG)"},
		{"another algorithm", strings.Replace(writer(server, pair("www.example.org", hosts)), " "+updateKey+"\n", " "+updateKey+" hmac-sha512\n", 1), "badkey", "NOTAUTH (BADKEY)"},
		{"no key", strings.Replace(writer(server, pair("www.example.org", hosts)), "example.org "+updateKey+"\n", "example.org\n", 1), "refused", "REFUSED"},
		{"another zone", strings.Replace(writer(server, pair("www.example.org", hosts)), server+" example.org", server+" www.example.org", 1), "notauth", "NOTAUTH: the server is not the primary"},
		{"nobody there", writer("127.0.0.54:1", pair("www.example.org", hosts)), "unreachable", "connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lines := record(t)
			s := start(t, tc.corefile)
			eventually(t, bound, "it is in the log: "+tc.said, func() bool { return len(lines("[WARNING] plugin/failover: update of")) > 0 })
			if said := lines("[WARNING] plugin/failover: update of")[0]; !strings.Contains(said, tc.said) {
				t.Errorf("The log says %q, want %q in it", said, tc.said)
			}
			if n, _ := metric(t, "coredns_failover_updates_total", "result="+tc.result); n < 1 {
				t.Errorf("%v updates have the result %s", n, tc.result)
			}
			if n, _ := metric(t, "coredns_failover_updates_total"); n > 8 {
				t.Errorf("%v attempts: more than what the log takes", n)
			}
			wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2")
			if got := found(t, server, "www.example.org.", dns.TypeA); got != "" {
				t.Errorf("The primary has %q", got)
			}
			s.stop()
		})
	}
}

// While the primary is away nothing is lost, and its secondary hears of what comes after.
func TestUpdateRestart(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	var primary *peer
	var conf string // its file
	secondary := startPeer(t, "knotd", "127.0.0.54", "example.org.", func(to place) string {
		primary = startPeer(t, "named", home, "example.org.", func(at place) string {
			conf = filepath.Join(at.dir, "named.conf")
			return bindPrimary(t, at, fmt.Sprintf("notify explicit; notify-delay 0; also-notify { %s port %s; }; allow-transfer { any; };", to.host, to.port))
		})
		host, port, _ := net.SplitHostPort(primary.addr)
		return fmt.Sprintf(`
server:
    rundir: %[1]q
    listen: %[2]s@%[3]s
database:
    storage: %[1]q
remote:
  - id: primary
    address: %[4]s@%[5]s
acl:
  - id: notify
    address: %[4]s
    action: notify
zone:
  - domain: example.org
    storage: %[1]q
    master: primary
    acl: notify
`, to.dir, to.host, to.port, host, port)
	})
	start(t, writer(primary.addr, pair("www.example.org", hosts)))
	comes(t, primary.addr, "www.example.org.", dns.TypeA, "127.0.0.2")
	comes(t, secondary.addr, "www.example.org.", dns.TypeA, "127.0.0.2")
	primary.end()
	hosts[0].stop()
	eventually(t, bound, "it is in the log", func() bool { return len(lines("update of example.org. at "+primary.addr+": ")) == 1 })
	beside(t, "named", append(slices.Clone(inFront["named"]), conf)...)
	comes(t, primary.addr, "www.example.org.", dns.TypeA, "127.0.0.3")
	comes(t, secondary.addr, "www.example.org.", dns.TypeA, "127.0.0.3")
	eventually(t, bound, "it is in the log that all is well", func() bool { return len(lines("all is well again")) == 1 })
	hosts[0].start()
	comes(t, secondary.addr, "www.example.org.", dns.TypeA, "127.0.0.2")
}

// Two that write the same change the zone once for each transition.
func TestUpdateTwo(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	primary := bindServer(t)
	corefile := writer(primary, pair("www.example.org", hosts))
	start(t, corefile)
	start(t, strings.Replace(corefile, "bind "+home, "bind 127.0.0.54", 1))
	comes(t, primary, "www.example.org.", dns.TypeA, "127.0.0.2")
	down := hosts[0].addr + ": up -> down"
	for i := range 5 {
		hosts[0].stop()
		eventually(t, bound, "both know", func() bool { return len(lines(down)) == 2*i+2 })
		comes(t, primary, "www.example.org.", dns.TypeA, "127.0.0.3")
		hosts[0].start()
		eventually(t, bound, "both know", func() bool { return len(lines(hosts[0].addr+": down -> up")) == 2*i+2 })
		comes(t, primary, "www.example.org.", dns.TypeA, "127.0.0.2")
	}
	eventually(t, bound, "nothing is pending", func() bool {
		n, ok := metric(t, "coredns_failover_updates_pending", "server="+primary)
		return ok && n == 0
	})
	// One is ahead of the other, which on a machine with much to do may be a whole transition behind.
	var serial int
	if _, err := fmt.Sscanf(found(t, primary, "example.org.", dns.TypeSOA), "ns.example.org. hostmaster.example.org. %d", &serial); err != nil || serial < 12 || serial > 16 {
		t.Errorf("The serial is %d, want 12: one change for each of ten transitions, and one before", serial)
	}
	if said := lines("[WARNING]"); len(said) > 0 {
		t.Errorf("The log has %q", said)
	}
}
