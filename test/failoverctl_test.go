package test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns-failover/failover/internal/ctl"

	"github.com/miekg/dns"
)

// said is what has come of one run of failoverctl.
type said struct {
	status   int
	out, err string
}

// failoverctl runs the command in the process, as from a script.
func failoverctl(ctx context.Context, args ...string) said {
	var out, errs bytes.Buffer
	status := ctl.Main(ctx, args, ctl.World{
		In: strings.NewReader(""), Out: &out, Err: &errs, Zone: time.UTC,
		Getenv: func(name string) string { return map[string]string{"USER": "alice"}[name] },
	})
	return said{status, out.String(), errs.String()}
}

// An operator looks, takes a member out, sees that the answer follows, and takes it back: by the socket, and by HTTP
// with a token. Members that are the last are left alone.
func TestFailoverctl(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	socket := "unix://" + filepath.Join(t.TempDir(), "failover.sock")
	token := write(t, "token", "a token for tests only\n")
	address := "127.0.0.1:" + freePort(t)
	s := start(t, block(
		"failover {\n status "+address+" token "+token+"\n status "+socket+"\n interval 400ms\n recheck 20ms\n ttl 1s 60s\n }",
		fmt.Sprintf("failover www.example.org *.apps.example.org a=%s b=%s", hosts[0], hosts[1]),
		fmt.Sprintf("failover db.example.org {\n primary %s\n backup %s\n answer 1\n }", hosts[0], hosts[1]),
	))
	for _, server := range [][]string{{"-server", socket}, {"-server", "http://" + address, "-token", token}} {
		run := func(wantStatus int, wants []string, args ...string) {
			t.Helper()
			got := failoverctl(t.Context(), append(server, args...)...)
			if got.status != wantStatus {
				t.Errorf("failoverctl %q has the status %d, want %d; it prints\n%sand says %q", args, got.status, wantStatus, got.out, got.err)
			}
			for _, want := range wants {
				if !regexp.MustCompile(want).MatchString(got.out + got.err) {
					t.Errorf("failoverctl %q prints\n%sand says %q, want what matches %q", args, got.out, got.err, want)
				}
			}
		}
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2", "127.0.0.3")

		run(0, []string{
			`2 pools, 4 members\n`, `(?m)^www\.example\.org\. +0 +2/2 +\d+s +127\.0\.0\.2 127\.0\.0\.3$`, `(?m)^db\.example\.org\. +0 +2/2 +\d+s +127\.0\.0\.2$`,
		}, "status")
		run(0, []string{`No pool is unwell`}, "status", "-unwell")
		run(0, []string{
			`^www\.x\.apps\.example\.org\. is answered by the pool www\.example\.org\. of the server block example\.org\.`,
			`It answers 127\.0\.0\.2 127\.0\.0\.3 \(tier 0\) since `, `Tier 0 is in use: 2 of 2 members can be used, and it takes 1\.`,
			`a 127\.0\.0\.2:\d+ is up since .*: 1 pass; it is in the answer\n    tcp://: passed `, `is down, if its probes fail`,
		}, "explain", "www.x.apps.example.org")
		run(2, []string{`no pool answers for "example.org."`}, "explain", "example.org")

		run(0, []string{
			`: drain by alice@\S+ until \S+: new disks\n`, `db\.example\.org\., .*: the answer would become 127\.0\.0\.3 \(tier 1\), from 127\.0\.0\.2 \(tier 0\)`,
			`www\.example\.org\., a .*: the answer would become 127\.0\.0\.3 \(tier 0\), from 127\.0\.0\.2 127\.0\.0\.3 \(tier 0\)`,
		}, "drain", "127.0.0.2", "-for", "2h", "-reason", "new disks", "-dry-run")
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2", "127.0.0.3")
		run(0, []string{`the answer becomes 127\.0\.0\.3`}, "drain", "127.0.0.2", "-for", "2h", "-reason", "new disks")
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.3")
		wantAddresses(t, s.ask("db.example.org.", dns.TypeA), "127.0.0.3")

		run(0, []string{`(?m)^db\.example\.org\. +1 +2/2 .*drain by alice@\S+ for (1h59m|2h): new disks$`, `2 unwell`, `1 override`}, "status", "-unwell")
		run(0, []string{`overridden since .*: drain by alice@\S+ until .*: new disks; its probes say up`, `the override of a .* ends`}, "explain", "www.example.org")
		run(1, []string{`www\.example\.org\., b .*: the answer would become .*fallback all`, `not done: a pool would be left without a usable tier; -force`}, "drain", "b", "-pool", "WWW.example.org")
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.3")
		run(2, []string{`no pool has the member "127.0.0.77"`}, "drain", "127.0.0.77")
		run(0, []string{`set 127\.0\.0\.2: drain by alice@\S+ until .*: new disks\n`}, "events")

		run(0, []string{`127\.0\.0\.2: clear\n`, `the answer becomes 127\.0\.0\.2 127\.0\.0\.3 \(tier 0\)`}, "clear", "127.0.0.2")
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2", "127.0.0.3")
		run(2, []string{`there is no override`}, "clear", "127.0.0.2")
	}
	if got := failoverctl(t.Context(), "-server", "http://"+address, "drain", "127.0.0.2"); got.status != 2 || !strings.Contains(got.err, "wants a token for that: name its file") {
		t.Errorf("Without a token: %+v", got)
	}

	// What explain says of the TTL is the TTL, while all is well and after a failure.
	for _, stopped := range []bool{false, true} {
		if stopped {
			hosts[0].stop()
			eventually(t, bound, "the member is out", func() bool { return len(s.ask("www.example.org.", dns.TypeA).Answer) == 1 })
		}
		eventually(t, bound, "the TTL is explained", func() bool {
			ttl := s.ask("www.example.org.", dns.TypeA).Answer[0].Header().Ttl
			got := failoverctl(t.Context(), "-server", socket, "explain", "www.example.org")
			return strings.Contains(got.out, fmt.Sprintf("\nTTL %ds: within 1s to 1m, the soonest that a member of tier 0 could change the answer: ", ttl))
		})
	}
}

// Events are followed over a reload, which takes nothing from them.
func TestFailoverctlFollows(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	socket := "unix://" + filepath.Join(t.TempDir(), "failover.sock")
	corefile := block("failover {\n status "+socket+"\n interval 400ms\n recheck 20ms\n }", fmt.Sprintf("failover www.example.org %s %s", hosts[0], hosts[1]))
	s := start(t, corefile)
	ctx, cancel := context.WithCancel(t.Context())
	out := &screen{}
	done := make(chan said)
	go func() {
		status := ctl.Main(ctx, []string{"-server", socket, "events", "-follow", "www.example.org"}, ctl.World{
			In: strings.NewReader(""), Out: out, Err: out, Zone: time.UTC, Getenv: func(string) string { return "" },
		})
		done <- said{status: status}
	}()
	defer func() {
		cancel()
		if got := <-done; got.status != 0 {
			t.Errorf("The status is %d, and it says\n%s", got.status, out)
		}
	}()
	see := func(want string) {
		t.Helper()
		eventually(t, bound, "failoverctl tells: "+want, func() bool { return strings.Contains(out.String(), want) })
	}
	hosts[0].stop()
	see(hosts[0].String() + ": up -> down (3 failures: connection refused); now answering 127.0.0.3\n")
	if err := s.reload(corefile); err != nil {
		t.Fatal(err)
	}
	see("  Corefile reloaded; 1 pool: 1 member up, 1 down\n")
	hosts[0].start()
	see(hosts[0].String() + ": down -> up (2 passes); now answering 127.0.0.2 127.0.0.3\n")
	if n := strings.Count(out.String(), "up -> down"); n != 1 {
		t.Errorf("The failure is told %d times\n%s", n, out)
	}
}

// A Corefile that the README shows is one that check takes.
func TestFailoverctlChecksReadme(t *testing.T) {
	found := corefiles(t, "../README.md")
	furnished := furnish(t)
	for i, corefile := range found {
		mapped := strings.ReplaceAll(loopback.Replace(corefile), "/usr/local/bin", furnished)
		if err := os.WriteFile("Corefile", []byte(mapped), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := failoverctl(t.Context(), "check", "-no-probe", "Corefile"); got.status != 0 {
			t.Errorf("Corefile %d has the status %d: %s%s\n%s", i, got.status, got.err, got.out, mapped)
		}
	}
}

// screen is a writer that may be read meanwhile.
type screen struct {
	mu   sync.Mutex
	text []byte
}

func (l *screen) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	return len(p), nil
}

func (l *screen) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}
