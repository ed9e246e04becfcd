package main

import (
	"bytes"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/pkg/dnstest"

	"github.com/miekg/dns"
)

// newTestDemo asks a DNS server that answers with whatever addresses it is told to.
func newTestDemo(t *testing.T) (*demo, *atomic.Pointer[string], *bytes.Buffer) {
	t.Helper()
	var addrs atomic.Pointer[string]
	server := dnstest.NewMultipleServer(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		for ip := range strings.FieldsSeq(*addrs.Load()) {
			rr, err := dns.NewRR(r.Question[0].Name + " 2 IN A " + ip)
			if err != nil {
				t.Error(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})
	t.Cleanup(server.Close)
	out := new(bytes.Buffer)
	d := &demo{screen: &screen{out: out, began: time.Now()}, server: server.Addr, acted: time.Now()}
	return d, &addrs, out
}

func TestWatch(t *testing.T) {
	d, addrs, out := newTestDemo(t)
	addrs.Store(new("192.0.2.1 192.0.2.2"))
	wanted := func(got string) bool { return got == "192.0.2.2" }
	if d.watch(t.Context(), 100*time.Millisecond, wanted) {
		t.Error("watch found an answer that was never given")
	}
	addrs.Store(new("192.0.2.2"))
	if !d.watch(t.Context(), 10*time.Second, wanted) {
		t.Errorf("watch saw %q, want 192.0.2.2", d.seen.addrs)
	}
	for _, line := range []string{
		"www.example.org is 192.0.2.1 192.0.2.2  ttl 2  [after ",
		"www.example.org is 192.0.2.2  ttl 2  [after ",
	} {
		if got := strings.Count(out.String(), line); got != 1 {
			t.Errorf("%q is on screen %d times, want once:\n%s", line, got, out)
		}
	}
}

// An answer that is right for a moment only must not pass for a failover.
func TestPlayAnswerMovesOn(t *testing.T) {
	d, addrs, _ := newTestDemo(t)
	addrs.Store(new("192.0.2.1"))
	change := time.AfterFunc(stay/4, func() { addrs.Store(new("192.0.2.9")) })
	defer change.Stop()
	_, err := d.play(t.Context(), step{want: "192.0.2.1"})
	if err == nil || !strings.Contains(err.Error(), `went on to "192.0.2.9"`) {
		t.Errorf("error %v, want one that names 192.0.2.9", err)
	}
}

func TestParse(t *testing.T) {
	m := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	m.Rcode = dns.RcodeServerFailure
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther, ExtraText: "a reason"})
	if got, want := parse(m).String(), "SERVFAIL without an address  (a reason)"; got != want {
		t.Errorf("parse: %q, want %q", got, want)
	}
}

func TestMember(t *testing.T) {
	port, err := freePort(8080, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	m := &member{label: "east", ip: "127.0.0.1", port: port}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	healthy := func() bool {
		r, err := client.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/healthz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	}
	for range 3 {
		for range 2 { // the second time changes nothing
			if err := m.start(); err != nil {
				t.Fatal(err)
			}
		}
		if !healthy() {
			t.Fatal("a started member does not answer")
		}
		for range 2 {
			m.stop()
		}
		if healthy() {
			t.Fatal("a stopped member answers")
		}
	}
}

func TestObey(t *testing.T) {
	d, _, out := newTestDemo(t)
	port := 8080
	for _, label := range labels {
		var err error
		if port, err = freePort(port+1, "127.0.0.1"); err != nil {
			t.Fatal(err)
		}
		d.members = append(d.members, &member{label: label, ip: "127.0.0.1", port: port})
	}
	t.Cleanup(d.stopMembers)
	for _, tc := range []struct{ line, running string }{
		{"start 1", "east"},
		{"start all", "east west spare"},
		{"stop west", "east spare"},
		{"stop 3", "east"},
		{"stop 0", "east"},
		{"stop 4", "east"},
		{"", "east"},
		{"dance", "east"},
		{"stop all", ""},
	} {
		if !d.obey(tc.line) {
			t.Errorf("%q ends the demo", tc.line)
		}
		var running []string
		for _, m := range d.members {
			if m.served != nil {
				running = append(running, m.label)
			}
		}
		if got := strings.Join(running, " "); got != tc.running {
			t.Errorf("after %q %q run, want %q\n%s", tc.line, got, tc.running, out)
		}
	}
	if d.obey("quit") {
		t.Error("quit does not end the demo")
	}
	if got := strings.Count(out.String(), "Type: "); got != 3 {
		t.Errorf("%d lines of help for three lines that mean nothing:\n%s", got, out)
	}
}

func TestScreen(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, began: time.Now()}
	_, _ = s.Write([]byte("[INFO] a line\n"))
	s.color = true
	s.line(dim, "dim")
	s.line(plain, "plain")
	got := regexp.MustCompile(`\d+\.\d\ds`).ReplaceAllString(out.String(), "1.00s")
	want := "  1.00s  [INFO] a line\n  1.00s  \x1b[2mdim\x1b[0m\n  1.00s  plain\n"
	if got != want {
		t.Errorf("screen shows %q, want %q", got, want)
	}
}
