package ctl

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// corefile is a Corefile of a test in a file of that name.
func corefile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// member is a web server that answers with a status, and the address of it.
func member(t *testing.T, code int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// mute is the address of somebody who never says a word.
func mute(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// nobody is an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.9:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A certificate that all members of a pool show is a warning, if their probe fails before its end.
func TestCheckSharedCertificate(t *testing.T) {
	// httptest servers have the same certificate.
	one := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(one.Close)
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	two := httptest.NewUnstartedServer(http.NotFoundHandler())
	two.Listener.Close()
	two.Listener = l
	two.StartTLS()
	t.Cleanup(two.Close)
	for options, want := range map[string]bool{"expires 24h fail": true, "expires 24h": false, "": false} {
		path := corefile(t, fmt.Sprintf(`example.org:0 {
    failover www.example.org %s %s {
        probe https:// insecure status 404 %s
    }
}
`, one.Listener.Addr(), two.Listener.Addr(), options))
		got := run(t, "check", path)
		const words = "all members of pool www.example.org. show one certificate, so expires 24h fail takes all of them down at the same moment; leave fail out"
		if has := strings.Contains(got.out, words); has != want {
			t.Errorf("%q: the warning is there: %t, want %t\n%s%s", options, has, want, got.out, got.err)
		}
	}
}

// A table of what was asked, and a line for what failed.
func TestCheckProbes(t *testing.T) {
	good, bad, silent, none := member(t, 200), member(t, 503), mute(t), nobody(t)
	path := corefile(t, fmt.Sprintf(`example.org:0 {
    bind 127.0.0.1
    failover a.example.org fra=%s {
        probe http:///
    }
    failover b.example.org %s {
        probe http:/// status 200
        probe tcp://
        require any
    }
    failover c.example.org %s {
        probe http:///
        timeout 50ms
    }
    failover d.example.org %s
}
`, good, bad, silent, none))
	got := run(t, "check", path)
	said := regexp.MustCompile(` +[0-9.]+(µs|ms|s)\b`).ReplaceAllString(got.out, " TIME")
	for address, name := range map[string]string{good: "GOOD", bad: "BAD", silent: "SILENT", none: "NONE"} {
		said = strings.ReplaceAll(said, address, name)
	}
	said = regexp.MustCompile(` {2,}`).ReplaceAllString(said, " ")
	want := `Corefile: 4 pools, 4 members

POOL MEMBER PROBE RESULT TIME
a.example.org. fra GOOD http:/// pass TIME
b.example.org. BAD http:/// fail TIME status 503, want 200
b.example.org. BAD tcp:// pass TIME
c.example.org. SILENT http:/// fail TIME timeout while reading
d.example.org. NONE tcp:// fail TIME connection refused
`
	said = strings.ReplaceAll(said, path, "Corefile")
	if got.status != no || said != want {
		t.Errorf("The status is %d, and it prints\n%s, want\n%s", got.status, said, want)
	}
	if want := "failoverctl: " + path + ": 2 members failed\n"; got.err != want {
		t.Errorf("It says %q, want %q", got.err, want)
	}

	var r report
	got = run(t, "check", "-o", "json", path)
	if err := json.Unmarshal([]byte(got.out), &r); err != nil || got.status != no || r.Failed != 2 || len(r.Probes) != 5 {
		t.Errorf("As JSON: %v, status %d, %s", err, got.status, got.out)
	}
	if got = run(t, "check", "-no-probe", path); got.status != 0 || strings.Contains(got.out, "RESULT") {
		t.Errorf("Without probes the status is %d, and it prints\n%s%s", got.status, got.out, got.err)
	}
}

// All the probes that several pools share are asked once, and no more at once than there is room for.
func TestCheckAsksOnce(t *testing.T) {
	asked := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Path }))
	t.Cleanup(s.Close)
	address := s.Listener.Addr()
	path := corefile(t, fmt.Sprintf("example.org:0 {\n bind 127.0.0.1\n failover {\n probe http://x/p\n }\n failover a.example.org %s\n failover b.example.org %s\n}\n", address, address))
	if got := run(t, "check", path); got.status != good || strings.Count(got.out, "pass") != 2 {
		t.Errorf("The status is %d, and it prints\n%s%s", got.status, got.out, got.err)
	}
	if len(asked) != 1 {
		t.Errorf("The member was asked %d times, want once", len(asked))
	}
}

// What CoreDNS refuses is refused with its words, and nothing has been started by then.
func TestCheckRefused(t *testing.T) {
	taken := mute(t)
	_, port, _ := net.SplitHostPort(taken)
	for want, text := range map[string]string{
		"Corefile:2 - Error during parsing: member \"127.0.0.1\" of pool":             "example.org:0 {\n failover www.example.org 127.0.0.1\n}",
		"Unknown directive 'failovre'":                                                "example.org:0 {\n failovre www.example.org 127.0.0.1:80\n}",
		"Corefile:3 - Error during parsing: loadbalance in the same server block":     "example.org:0 {\n loadbalance\n failover www.example.org 127.0.0.1:80\n}",
		"from next without a plugin that could answer":                                "example.org:0 {\n failover {\n from next\n probe tcp://:80\n }\n}",
		"cannot serve dns://example.org.:0 - it is already defined":                   "example.org:0 {\n failover www.example.org 127.0.0.1:80\n}\nexample.org:0 {\n failover www.example.org 127.0.0.1:80\n}",
		"update with the key \"k.\", want one that tsig has in the same server block": "example.org:0 {\n failover {\n update 127.0.0.1 example.org k.\n }\n failover www.example.org 127.0.0.1:80\n}",
		"no such file or directory":                                                   "example.org:0 {\n failover {\n status 127.0.0.1:" + port + " token /nowhere\n }\n failover www.example.org 127.0.0.1:80\n}",
	} {
		got := run(t, "check", corefile(t, text))
		if got.status != refused || got.out != "" || !strings.Contains(got.err, want) || !strings.HasPrefix(got.err, "failoverctl: CoreDNS would refuse ") {
			t.Errorf("The status is %d, it prints %q and says %q, want %q", got.status, got.out, got.err, want)
		}
		var r report
		got = run(t, "check", "-o", "json", corefile(t, text))
		if err := json.Unmarshal([]byte(got.out), &r); err != nil || got.status != refused || !strings.Contains(r.Refused, want) {
			t.Errorf("As JSON: %v, status %d, %s", err, got.status, got.out)
		}
	}
	// Nobody listens anywhere, so it does not matter that somebody else does.
	text := "example.org:" + port + " {\n bind 127.0.0.1\n health 127.0.0.1:" + port + "\n prometheus 127.0.0.1:" + port + "\n failover {\n status 127.0.0.1:" + port + "\n }\n failover www.example.org 127.0.0.1:80\n}"
	if got := run(t, "check", "-no-probe", corefile(t, text)); got.status != good {
		t.Errorf("With ports that are taken the status is %d, and it says %s", got.status, got.err)
	}
}

// A state file that the server would do without is a warning, and one that is not there yet is none.
func TestCheckState(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"mine": "my diary", "broken": `{"format":"failover state","version":1`, "empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"":           dir + " is no file, so it is left as it is, and nothing is kept; a restart",
		"none/state": "stat " + dir + "/none: no such file or directory; a restart",
		"mine/state": "mine/state: not a directory; a restart",
		"mine":       dir + "/mine is no state file of failover, so it is left as it is",
		"broken":     dir + "/broken is not whole: unexpected end",
		"empty":      "",
		"new":        "",
	} {
		path := corefile(t, "example.org:0 {\n failover {\n state "+dir+"/"+name+"\n }\n failover www.example.org 127.0.0.1:80\n}\n")
		got := run(t, "check", "-no-probe", path)
		if want == "" {
			if got.status != good || strings.Contains(got.out, "warning") {
				t.Errorf("With the state file %q the status is %d, and it prints %s", name, got.status, got.out)
			}
		} else if got.status != no || !strings.Contains(got.out, "\n"+path+":3: warning: state: ") || !strings.Contains(got.out, want) {
			t.Errorf("With the state file %q the status is %d, and it prints %s, want %q", name, got.status, got.out, want)
		}
	}
}

func TestFindings(t *testing.T) {
	many := make([]string, 0, 2000)
	for i := range 2000 {
		many = append(many, fmt.Sprintf("10.%d.%d.1:80", i/200, i%200))
	}
	for _, c := range []struct{ text, want string }{ // the pools stand in line 2
		{"failover w.example.org a=192.0.2.1:80 A=198.51.100.1:80", "2: note: a 192.0.2.1:80 and A 198.51.100.1:80 of pool w.example.org. have the same label"},
		{"failover w.example.org a=192.0.2.1:80 a=[2001:db8::1]:80", ""},
		{"failover w.example.org 192.0.2.1:80 {\n fallback none\n }", "2: warning: pool w.example.org. has one member and fallback none"},
		{"failover w.example.org 192.0.2.1:80", ""},
		{"failover w.example.org 192.0.2.1:80 {\n fallback 198.51.100.1\n }", ""},
		{"failover w.example.org 192.0.2.1:80 {\n backup 192.0.2.2:80\n }\n failover v.example.org 192.0.2.2:80", "2: note: all members of pool w.example.org. are in 192.0.2.0/24"},
		{"failover w.example.org 192.0.2.1:80 [2001:db8::1]:80", ""},
		{"failover w.example.org [2001:db8::1]:80 [2001:db8::2]:80", "2: note: all members of pool w.example.org. are in 2001:db8::/64"},
		{"failover w.example.org 192.0.2.1:80 192.0.2.2:80 198.51.100.1:80", ""},
		{"failover w.example.org 192.0.2.1:80 {\n fall 1\n }", "3: note: a member of pool w.example.org. is down after one failure"},
		{"failover {\n fall 1\n }\n failover v.example.org 192.0.2.1:80\n failover w.example.org 192.0.2.1:80", "3: note: a member of pool v.example.org. is down after one failure"},
		{"failover w.example.org 192.0.2.1:80 {\n ttl 3s\n }", "3: note: the TTL of pool w.example.org. is at most 3s, and no change shows sooner than after 7s"},
		{"failover w.example.org 192.0.2.1:80 {\n ttl 5m\n }", "3: note: the TTL of pool w.example.org. is at least 5m, so clients keep a dead address"},
		{"failover w.example.org 192.0.2.1:80 {\n ttl 30s\n }", ""},
		{"failover v.example.org a=192.0.2.1:80\n failover w.example.org a=198.51.100.1:80", "3: note: label a is 198.51.100.1 in pool w.example.org. and 192.0.2.1 in pool v.example.org. (Corefile:2)"},
		{"failover v.example.org a=192.0.2.1:80\n failover w.example.org a=192.0.2.1:81", ""},
		{"failover v.example.org 192.0.2.1:80 {\n backup 198.51.100.1:80 198.51.100.2:80\n }", "2: note: only ever a backup: 198.51.100.1:80, 198.51.100.2:80;"},
		{"failover v.example.org 192.0.2.1:80 {\n backup 198.51.100.1:80\n }\n failover w.example.org 198.51.100.1:80 {\n backup 192.0.2.1:80\n }", ""},
		{"failover v.example.org " + strings.Join(many, " ") + " {\n interval 100ms\n }", "3: warning: the members get 20000 probes a second in all"},
		{"failover v.example.org " + strings.Join(many, " ") + " {\n interval 1s\n ttl 3s\n }\n failover w.example.org " + strings.Join(many, " ") + " {\n interval 1s\n ttl 3s\n }", ""},
		{"whoami", "Corefile: note: there is no failover in it"},
	} {
		path := corefile(t, "example.org:0 {\n "+c.text+"\n}\n")
		got := run(t, "check", "-no-probe", path)
		lines := strings.Split(strings.TrimSuffix(strings.ReplaceAll(got.out, path, "Corefile"), "\n"), "\n")[1:]
		wantStatus := good
		if strings.Contains(c.want, "warning: ") {
			wantStatus = no
		}
		if got.status != wantStatus {
			t.Errorf("%.200s\nhas the status %d, want %d: %s", c.text, got.status, wantStatus, got.err)
		}
		if c.want == "" && len(lines) > 0 || c.want != "" && (len(lines) != 1 || !strings.Contains(lines[0], c.want)) {
			t.Errorf("%.200s\nhas the findings\n%s\nwant\n%s", c.text, strings.Join(lines, "\n"), c.want)
		}
		strict := run(t, "check", "-no-probe", "-strict", path)
		if wantStrict := min(len(c.want), 1); strict.status != wantStrict {
			t.Errorf("%.200s\nhas the status %d with -strict, want %d", c.text, strict.status, wantStrict)
		}
	}
}

// The standard input is a Corefile, too, and one may import another.
func TestCheckInput(t *testing.T) {
	w := World{In: strings.NewReader("example.org:0 {\n failover www.example.org 127.0.0.1:80 {\n fall 1\n }\n}")}
	got := runIn(t, w, "check", "-no-probe", "-")
	if got.status != good || !strings.HasPrefix(got.out, "stdin: 1 pool, 1 member\nstdin:3: note: ") {
		t.Errorf("The status is %d, and it prints %s%s", got.status, got.out, got.err)
	}
	inner := corefile(t, "failover www.example.org 127.0.0.1:80 {\n fall 1\n}\n")
	got = run(t, "check", "-no-probe", corefile(t, "example.org:0 {\n import "+inner+"\n}\n"))
	if got.status != good || !strings.Contains(got.out, "\n"+inner+":2: note: ") {
		t.Errorf("The status is %d, and it prints %s%s", got.status, got.out, got.err)
	}
}
