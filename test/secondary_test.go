package test

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// transferKey and transferSecret are the key that README.md has.
const transferKey = "transfer-key.example.org."

var transferSecret = firstOf(`secret: "(.*)"`, secondaryConf["nsd"])

// secondaryConf are the configurations of the secondaries in README.md, by their program.
var secondaryConf = map[string]string{
	"named": readmeBlock("named.conf"),
	"nsd":   readmeBlock("nsd.conf"),
	"knotd": readmeBlock("knot.conf"),
}

// secondaryHosts are where they listen; for BIND see bind.
var secondaryHosts = map[string]string{"named": home, "nsd": "127.0.0.54", "knotd": "127.0.0.55"}

// readmeBlock is the first block of a kind in README.md.
func readmeBlock(kind string) string {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		panic(err)
	}
	return firstOf(`(?ms)^~~~ `+regexp.QuoteMeta(kind)+`\n(.*?)^~~~$`, string(text))
}

// firstOf is the first submatch of a pattern that has to match.
func firstOf(pattern, text string) string {
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		panic("Nothing matches " + pattern)
	}
	return m[1]
}

// secondaries are BIND, NSD and Knot as secondaries of example.org, all three at once.
type secondaries struct {
	primary string // the address of their primary, with its port
	at      map[string]place
	peers   map[string]*peer
}

// newSecondaries chooses where secondaries and their primary will listen.
func newSecondaries(t testing.TB) *secondaries {
	t.Helper()
	s := &secondaries{net.JoinHostPort(home, lowPort(t, home)), make(map[string]place), make(map[string]*peer)}
	for program, host := range secondaryHosts {
		needs(t, program)
		s.at[program] = place{t.TempDir(), host, lowPort(t, host)}
	}
	return s
}

// programs are those of the secondaries, in order.
func (s *secondaries) programs() []string { return slices.Sorted(maps.Keys(s.at)) }

// to is what *transfer* says of them.
func (s *secondaries) to() string {
	text := "transfer {\n        to"
	for _, program := range s.programs() {
		text += " " + net.JoinHostPort(s.at[program].host, s.at[program].port)
	}
	return text + "\n    }"
}

// tsig is the directive of the key that README.md has.
func tsig() string {
	return "tsig {\n        secret " + transferKey + " " + transferSecret + "\n        require AXFR IXFR\n    }"
}

// primaryBlock is a server block for example.org where the secondaries look for it.
func (s *secondaries) primaryBlock(lines ...string) string {
	host, port, _ := net.SplitHostPort(s.primary)
	return "example.org:" + port + " {\n    bind " + host + "\n    " + strings.Join(lines, "\n    ") + "\n}\n"
}

// start starts all three, and waits until they have the zone. secret is of the key, none when it is empty.
func (s *secondaries) start(t testing.TB, secret string) {
	t.Helper()
	for _, program := range s.programs() {
		s.peers[program] = secondary(t, program, s.at[program], s.primary, secret)
	}
	for program, p := range s.peers {
		eventually(t, bound, program+" has the zone", func() bool { return p.serial() != 0 })
	}
}

// secondary starts BIND, NSD or Knot as a secondary of example.org, with the configuration that README.md has of
// it, and waits until it answers, be it that it has no such zone yet. What it has anybody may transfer from it.
func secondary(t testing.TB, program string, at place, primary, secret string) *peer {
	t.Helper()
	p := &peer{addr: net.JoinHostPort(at.host, at.port)}
	conf := at.file(t, program+".conf", secondaryConfig(t, program, at, primary, secret))
	p.daemon = beside(t, program, append(inFront[program], conf)...)
	c := &dns.Client{Timeout: time.Second}
	eventually(t, bound, program+" answers", func() bool {
		if p.hasEnded() {
			t.Fatalf("%s has ended:\n%s", program, p.said)
		}
		_, _, err := c.Exchange(question("example.org.", dns.TypeSOA), p.addr)
		return err == nil
	})
	return p
}

// secondaryConfig is the configuration of a secondary in README.md, put in its place.
func secondaryConfig(t testing.TB, program string, at place, primary, secret string) string {
	t.Helper()
	conf := secondaryConf[program]
	replace := func(what string, pairs ...string) {
		for i := 0; i < len(pairs); i += 2 {
			re := regexp.MustCompile(pairs[i])
			if !re.MatchString(conf) {
				t.Fatalf("README.md has nothing in %s for %s: %s", program, what, pairs[i])
			}
			conf = re.ReplaceAllString(conf, pairs[i+1])
		}
	}
	host, port, _ := net.SplitHostPort(primary)
	switch program {
	case "named":
		replace("ports", `192\.0\.2\.53 port 53\b`, "192.0.2.53 port "+port, `listen-on port 53\b`, "listen-on port "+at.port)
		replace("a test", `allow-transfer \{ none; \};`, "allow-transfer { any; };",
			`options \{`, "controls { };\noptions {\n    pid-file none; session-keyfile none; dnssec-validation no;") // ask no root
		if secret == "" {
			replace("no key", `(?ms)^key .*?^};\n`, "", ` key "`+`[^"]*"`, "")
		} else {
			replace("the secret", `secret ".*"`, `secret "`+secret+`"`)
		}
	case "nsd":
		replace("ports", `192\.0\.2\.53@53\b`, "192.0.2.53@"+port, `(ip-address: .*)@53\b`, "$1@"+at.port)
		replace("a test", `$`, "    provide-xfr: 0.0.0.0/0 NOKEY\n",
			`server:`, "remote-control:\n    control-enable: no\nserver:\n    username: \"\"\n    pidfile: \"\"\n    rrl-ratelimit: 0\n    verbosity: 1")
		if secret == "" {
			replace("no key", `(?m)^key:\n( .*\n)+`, "", `(request-xfr: \S+) .*`, "$1 NOKEY")
		} else {
			replace("the secret", `secret: ".*"`, `secret: "`+secret+`"`)
		}
	case "knotd":
		replace("ports", `192\.0\.2\.53@53\b`, "192.0.2.53@"+port, `(listen: .*)@53\b`, "$1@"+at.port)
		replace("a test", `acl: notified`, "acl: [ notified, all ]", `(?m)^zone:`, "  - id: all\n    action: transfer\nzone:",
			`target: syslog`, "target: stderr")
		if secret == "" {
			replace("no key", `(?m)^key:\n( .*\n)+`, "", `(?m)^ *key: .*\n`, "")
		} else {
			replace("the secret", `secret: .*`, "secret: "+secret)
		}
	}
	replace("addresses", `192\.0\.2\.53\b`, host, `198\.51\.100\.5\d\b`, at.host)
	replace("folders", `"/(var|run)/[a-z/]*`, `"`+at.dir)
	if left := regexp.MustCompile(`192\.0\.2|198\.51|"/(var|run)|\b53\b`).FindString(conf); left != "" {
		t.Fatalf("%s is still in the configuration of %s:\n%s", left, program, conf)
	}
	return conf
}

// serial is that of the zone as a peer has it, 0 for none.
func (p *peer) serial() uint32 {
	c := &dns.Client{Net: "tcp", Timeout: time.Second}
	m, _, err := c.Exchange(question("example.org.", dns.TypeSOA), p.addr)
	if err != nil || len(m.Answer) != 1 {
		return 0
	}
	soa, ok := m.Answer[0].(*dns.SOA)
	if !ok {
		return 0
	}
	return soa.Serial
}

// addressOf is the address that a secondary has of a name, "" where it has none or several. Asked over TCP nobody limits
// how often, but NSD drops connections when it takes in a zone.
func addressOf(addr, name string) string {
	c := &dns.Client{Net: "tcp", Timeout: time.Second}
	m, _, err := c.Exchange(question(name, dns.TypeA), addr)
	if err != nil || len(m.Answer) != 1 {
		return ""
	}
	return strings.Join(addresses(m), " ")
}

// follow waits until each of the secondaries answers as it shall, and says how long that took from now on.
func (s *secondaries) follow(t testing.TB, what string, within time.Duration, as func(addr string) bool) map[string]time.Duration {
	t.Helper()
	began, took := time.Now(), make(map[string]time.Duration)
	eventually(t, within, what+", all three", func() bool {
		for program, p := range s.peers {
			if _, done := took[program]; !done && as(p.addr) {
				took[program] = time.Since(began).Round(time.Millisecond)
			}
		}
		return len(took) == len(s.peers)
	})
	t.Logf("%s: %v", what, took)
	return took
}

// wholeZone is the whole of example.org as a transfer gives it, its records as text in order, with the rcode when
// it is refused. from is the address that is asked from; a secret is that of transferKey.
func wholeZone(addr, from, secret string) ([]string, error) {
	m := new(dns.Msg).SetAxfr("example.org.")
	rrs, err := transfer(m, addr, from, secret)
	if err != nil {
		return nil, err
	}
	var zone []string
	for _, rr := range rrs[:len(rrs)-1] {
		zone = append(zone, strings.ToLower(rr.String()))
	}
	slices.Sort(zone)
	return zone, nil
}

// transfer are the records of a transfer as they come.
func transfer(m *dns.Msg, addr, from, secret string) ([]dns.RR, error) {
	dialer := &net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	tr := &dns.Transfer{Conn: &dns.Conn{Conn: conn}, ReadTimeout: 5 * time.Second}
	if secret != "" {
		m.SetTsig(transferKey, dns.HmacSHA256, 300, time.Now().Unix())
		tr.TsigSecret = map[string]string{transferKey: secret}
	}
	envelopes, err := tr.In(m, addr)
	if err != nil {
		return nil, err
	}
	var rrs []dns.RR
	for e := range envelopes {
		if e.Error != nil && err == nil {
			err = e.Error
		}
		rrs = append(rrs, e.RR...)
	}
	return rrs, err
}

// replace puts another file in the place of one that may be read at any time.
func replace(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A zone file as README.md serves it is followed by secondaries as README.md has them.
func TestSecondaries(t *testing.T) {
	for what, secret := range map[string]string{"with a key": transferSecret, "without": ""} {
		t.Run(what, func(t *testing.T) {
			s := newSecondaries(t)
			path := filepath.Join(t.TempDir(), "db.example.org")
			version := func(serial int) {
				text := strings.Replace(zoneFile, "2026110101", fmt.Sprint(serial), 1) + fmt.Sprintf("version 60 IN A 127.1.0.%d\n", serial%100)
				for i := range 3000 { // more than one message
					text += fmt.Sprintf("n%d.many 3600 IN A 127.2.%d.%d\n", i, i/250, i%250)
				}
				replace(t, path, text)
			}
			version(2026110101)
			lines := []string{s.to(), "file " + path + " {\n        reload 200ms\n    }"}
			if secret != "" {
				lines = append(lines, tsig())
			}
			start(t, s.primaryBlock(lines...))
			s.start(t, secret)
			for serial := 2026110102; serial <= 2026110105; serial++ {
				said := record(t)
				version(serial)
				eventually(t, bound, "the file is read", func() bool { return len(said("Successfully reloaded")) > 0 })
				want := fmt.Sprintf("127.1.0.%d", serial%100)
				s.follow(t, "the answer is of the new file", 2*time.Second, func(addr string) bool {
					return addressOf(addr, "version.example.org.") == want
				})
			}
			whole, err := wholeZone(s.primary, home, secret)
			if err != nil {
				t.Fatal(err)
			}
			for program, p := range s.peers {
				if got, err := wholeZone(p.addr, home, ""); err != nil || !slices.Equal(got, whole) {
					t.Errorf("%s has %d records, want the %d of the primary; %v", program, len(got), len(whole), err)
				}
			}
		})
	}
}

// All that README.md has for a zone with secondaries goes together.
func TestSecondariesShareTheKey(t *testing.T) {
	var primary string
	for _, corefile := range corefiles(t, "../README.md") {
		if strings.Contains(corefile, "tsig {") {
			primary += corefile
		}
	}
	if strings.Count(primary, transferKey+" "+transferSecret) != 1 {
		t.Errorf("No Corefile has the key %s %s", transferKey, transferSecret)
	}
	for program, conf := range secondaryConf {
		address := firstOf(`(198\.51\.100\.5\d)`, conf)
		if !strings.Contains(conf, transferSecret) || !strings.Contains(primary, " "+address) {
			t.Errorf("%s has another key, or is not told of changes", program)
		}
	}
}

// Who has no key, or another, or is not listed gets nothing.
func TestSecondariesRefused(t *testing.T) {
	s := newSecondaries(t)
	start(t, s.primaryBlock(tsig(), s.to(), file(t)))
	if _, err := wholeZone(s.primary, home, transferSecret); err != nil {
		t.Errorf("The transfer fails with the right key from a listed address: %v", err)
	}
	for what, test := range map[string]struct{ from, secret, want string }{
		"no key":              {home, "", "bad xfr rcode: 5"},
		"a wrong key":         {home, "AAAA" + transferSecret[4:], "bad authentication"},
		"an unlisted address": {"127.0.0.56", transferSecret, "bad xfr rcode: 5"},
	} {
		if rrs, err := wholeZone(s.primary, test.from, test.secret); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("With %s the transfer is of %d records with the error %v, want %q", what, len(rrs), err, test.want)
		}
	}
	// A secondary with the wrong key says so, and has no zone.
	for _, program := range s.programs() {
		p := secondary(t, program, s.at[program], s.primary, "AAAA"+transferSecret[4:])
		complaint := map[string]string{"named": "failure trying primary", "nsd": "bad tsig signature", "knotd": "failed to verify TSIG"}[program]
		eventually(t, bound, program+" is refused", func() bool { return strings.Contains(p.said.String(), complaint) })
		if serial := p.serial(); serial != 0 {
			t.Errorf("%s has the zone with a wrong key, serial %d", program, serial)
		}
	}
}
