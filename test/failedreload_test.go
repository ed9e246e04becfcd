package test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/api"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// elsewhere is a server block that is no matter of failover's, for the same listener as block's.
func elsewhere(lines ...string) string {
	return strings.Replace(block(lines...), "example.org", "example.net", 1)
}

// onPort is a server block that listens on a port of its own.
func onPort(port string) string {
	return "example.com:" + port + " {\n    bind " + home + "\n    whoami\n}\n"
}

// The ways for a reload to fail, as what is added to a Corefile that is right, and what is logged then. Only
// the last begins to probe before it fails.
func broken(t testing.TB) map[string]struct{ block, why string } {
	t.Helper()
	taken := takenPort(t)
	return map[string]struct{ block, why string }{
		"Syntax":             {"example.net:0 {\n    errors {\n    whoami\n", "Unexpected EOF"},
		"Unknown directive":  {elsewhere("failovr"), "Unknown directive 'failovr'"},
		"Setup of failover":  {elsewhere("failover www.example.net 192.0.2"), `"192.0.2" is no IP address`},
		"Setup after it":     {elsewhere("template IN A {", "answer {{", "}"), "plugin/template"},
		"Start of failover":  {elsewhere("loadbalance", "failover www.example.net 127.0.0.9:80"), "loadbalance in the same server block"},
		"Start of another":   {elsewhere("health 127.0.0.1:" + taken), "address already in use"},
		"Listener, the last": {onPort(taken), "address already in use"},
	}
}

// seriesOf are the names of all of failover's metrics that have a pool.
func seriesOf(t testing.TB, pool string) []string {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatalf("The metrics cannot be read: %v", err)
	}
	var found []string
	for _, family := range families {
		for _, series := range family.GetMetric() {
			for _, pair := range series.GetLabel() {
				if strings.HasPrefix(family.GetName(), "coredns_failover_") && pair.GetName() == "pool" && pair.GetValue() == pool {
					found = append(found, family.GetName())
				}
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// A reload that fails, in whatever way, leaves the server as it was.
func TestFailedReload(t *testing.T) {
	for way, added := range broken(t) {
		t.Run(way, func(t *testing.T) {
			lines := record(t)
			hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
			const name = "www.example.org."
			s := start(t, block(pool(name, hosts[:2])))
			hosts[0].answer(http.StatusServiceUnavailable)
			eventually(t, bound, "a member is down", func() bool { return len(lines(hosts[0].addr+": up -> down")) == 1 })
			goroutines, files := footprint(t)
			said := len(lines("[INFO] plugin/failover: "))

			load := press(t, s, name, 100, 10, "127.0.0.3")
			for range 3 {
				err := renew(t, s, block(pool(name, hosts[:2], "fall 2"), pool("new.example.org", hosts[2:]))+added.block)
				if err == nil || !strings.Contains(err.Error(), added.why) {
					t.Fatalf("The reload says %v, want that it failed because of %q", err, added.why)
				}
			}
			if n := len(lines("[ERROR] Restart failed")); n != 3 {
				t.Errorf("CoreDNS has logged %d failed reloads, want 3", n)
			}
			wantAddresses(t, s.ask(name, dns.TypeA), "127.0.0.3")
			if r := s.ask("new.example.org.", dns.TypeA); r.Rcode == dns.RcodeSuccess && len(r.Answer) > 0 {
				t.Errorf("A pool that was refused answers %v", r)
			}

			// The members that only the refused Corefile has are let alone, and there are no series of them.
			still(t, "the new member", hosts[2].probesOf)
			if names := seriesOf(t, "new.example.org."); len(names) > 0 {
				t.Errorf("There are series of the pool that was refused: %q", names)
			}
			// The others are asked as before, once for each interval.
			asked, begin := hosts[1].asked.Load(), time.Now()
			time.Sleep(time.Second)
			most := int64(float64(time.Since(begin)/(200*time.Millisecond))*1.05) + 2
			if n := hosts[1].asked.Load() - asked; n > most || n < most/2 {
				t.Errorf("The member was asked %d times in a second, want about %d", n, most-2)
			}
			if now := lines("[INFO] plugin/failover: "); len(now) > said {
				t.Errorf("A reload that failed has been logged as %q", now[said:])
			}
			load.stop()

			// What happens next is said once, and counted once, and shows.
			before, _ := metric(t, "coredns_failover_transitions_total", "pool="+name, "to=up")
			hosts[0].answer(http.StatusOK)
			eventually(t, bound, "the member is up again", func() bool { return len(lines(hosts[0].addr+": down -> up")) > 0 })
			wantAddresses(t, s.ask(name, dns.TypeA), "127.0.0.2", "127.0.0.3")
			wantMetric(t, before+1, "coredns_failover_transitions_total", "pool="+name, "to=up")
			if now := lines("[INFO] plugin/failover: "); len(now) != said+1 {
				t.Errorf("The change has been logged as %q", now[said:])
			}

			// The next reload works as if nothing had been.
			if err := renew(t, s, block(pool(name, hosts[:2]), pool("new.example.org", hosts[2:]))); err != nil {
				t.Fatal(err)
			}
			wantAddresses(t, s.ask(name, dns.TypeA), "127.0.0.2", "127.0.0.3")
			wantAddresses(t, s.ask("new.example.org.", dns.TypeA), "127.0.0.4")
			if err := renew(t, s, block(pool(name, hosts[:2]))); err != nil {
				t.Fatal(err)
			}
			wantFootprint(t, goroutines, files)
		})
	}
}

// A reload that is refused is a warning of the server and an event, with its reason where a plugin can know it, until one
// takes place.
func TestFailedReloadIsSeen(t *testing.T) {
	for way, added := range broken(t) {
		t.Run(way, func(t *testing.T) {
			h := member(t, "127.0.0.2")
			address := home + ":" + freePort(t)
			corefile := block("failover {\n status "+address+"\n}", pool("www.example.org", []*host{h}))
			s := start(t, corefile)
			var events struct{ Events []api.Event }
			seen := func() ([]api.Warning, string) {
				var d api.Document
				get(t, http.DefaultClient, "http://"+address+"/api/v1/pools", &d)
				get(t, http.DefaultClient, "http://"+address+"/api/v1/events", &events)
				return d.Warnings, fmt.Sprint(events.Events[len(events.Events)-1].Kind, " ", events.Events[len(events.Events)-1].Change)
			}
			wantMetric(t, 0, "coredns_failover_warnings", "kind=reload")
			if err := s.reload(corefile + added.block); err == nil {
				t.Fatal("The reload has not failed")
			}
			warnings, event := seen()
			why := events.Events[len(events.Events)-1].Why
			if len(warnings) != 1 || warnings[0].Kind != "reload" || !strings.HasSuffix(warnings[0].Text, why) || event != "server refused" {
				t.Errorf("It warns of %+v, and the last event is %q (%s), want the reload that was refused", warnings, event, why)
			}
			// A Corefile that is no file cannot be read again for an error of its syntax.
			ours := strings.HasSuffix(way, "of failover")
			if known := strings.Contains(why, added.why); known != ours || !known && !strings.Contains(why, "in the log") {
				t.Errorf("The reason is %q, want %q if it is ours, which is %t, or else the log", why, added.why, ours)
			}
			wantMetric(t, 1, "coredns_failover_warnings", "kind=reload")

			if err := s.reload(corefile); err != nil {
				t.Fatal(err)
			}
			if warnings, event := seen(); len(warnings) > 0 || event != "server reloaded" {
				t.Errorf("It warns of %+v, and the last event is %q, want nothing and the reload", warnings, event)
			}
			wantMetric(t, 0, "coredns_failover_warnings", "kind=reload")
		})
	}
}

// The reason of a refusal for its syntax is read off the file, and so is the one of a file that no reload begins with.
func TestFailedReloadOfFile(t *testing.T) {
	h := member(t, "127.0.0.2")
	address := home + ":" + freePort(t)
	corefile := block("failover {\n status "+address+"\n}", pool("www.example.org", []*host{h}))
	process, output, _ := program(t, corefile)
	go func() {
		for range output { // ends with the process
		}
	}()
	path := corefileOf(t, process)
	var d api.Document
	warned := func() (text string) {
		get(t, http.DefaultClient, "http://"+address+"/api/v1/pools", &d)
		for _, w := range d.Warnings {
			text += w.Kind + ": " + w.Text
		}
		return text
	}
	change := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reload := func() {
		t.Helper()
		if err := process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 30*time.Second, "its status is there", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	eventually(t, bound, "nothing is wrong", func() bool { return warned() == "" })
	change(corefile + "example.net {\n    errors {\n")
	eventually(t, bound, "the torn file is a warning", func() bool { return strings.Contains(warned(), "reload: the Corefile cannot be read") })
	change(corefile + elsewhere("failovr"))
	reload()
	eventually(t, bound, "the refusal is a warning", func() bool {
		return strings.HasPrefix(warned(), "reload: the reload was refused") && strings.Contains(warned(), "Unknown directive 'failovr'")
	})
	change(corefile)
	reload()
	eventually(t, bound, "nothing is wrong again", func() bool { return warned() == "" })
}

// corefileOf is the path of the Corefile of a program.
func corefileOf(t *testing.T, process *os.Process) string {
	t.Helper()
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Split(string(args), "\x00")
	return words[slices.Index(words, "-conf")+1]
}

// Where the Corefile in use has no failover at all there is nobody to be told that the next one has
// failed. Its probing ends all the same.
func TestFailedReloadOfFirst(t *testing.T) {
	for name, beside := range map[string]string{
		"Alone":        "errors",
		"With ready":   "ready 127.0.0.1:" + freePort(t),
		"With metrics": "prometheus 127.0.0.1:" + freePort(t),
	} {
		t.Run(name, func(t *testing.T) {
			h := member(t, "127.0.0.2")
			s := start(t, elsewhere(beside, "whoami"))
			taken := takenPort(t)
			goroutines, files := footprint(t)
			for range 3 {
				asked := h.asked.Load()
				err := renew(t, s, elsewhere(beside, "whoami")+block(pool("new.example.org", []*host{h}))+onPort(taken))
				if err == nil || !strings.Contains(err.Error(), "address already in use") {
					t.Fatalf("The reload says %v, want that the address is in use", err)
				}
				if h.asked.Load() == asked {
					t.Fatal("The member was never asked: the reload has failed too early")
				}
				if names := seriesOf(t, "new.example.org."); len(names) > 0 {
					t.Errorf("There are series of the pool that was refused: %q", names)
				}
				still(t, "the member of the pool that was refused", h.probesOf)
			}
			if err := renew(t, s, elsewhere(beside, "whoami")+block(pool("new.example.org", []*host{h}))); err != nil {
				t.Fatal(err)
			}
			wantAddresses(t, s.ask("new.example.org.", dns.TypeA), "127.0.0.2")
			if err := renew(t, s, elsewhere(beside, "whoami")); err != nil {
				t.Fatal(err)
			}
			still(t, "the member of a pool that is gone", h.probesOf)
			wantFootprint(t, goroutines, files)
		})
	}
}
