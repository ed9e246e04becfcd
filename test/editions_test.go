package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// What goes out of a pool none of whose members is up, and which fallback that is.
func TestTransferFallback(t *testing.T) {
	h, other := member(t, "127.0.0.2"), member(t, "127.0.0.3")
	h.stop()
	other.stop()
	dead := func(name, fallback string) string {
		return fmt.Sprintf("failover %s.example.org %s %s {\n fall 1\n ttl 30s\n fallback %s\n}", name, h, other, fallback)
	}
	zone := zoneFile + "next 3600 IN A 192.0.2.81\nnone 3600 IN A 192.0.2.82\nnone 3600 IN AAAA 2001:db8::82\nnx 3600 IN A 192.0.2.83\nservfail 3600 IN A 192.0.2.84\n"
	s := start(t, block(dead("all", "all"), dead("primary", "primary"), dead("next", "next"), dead("none", "none"), dead("nx", "nxdomain"),
		dead("own", "192.0.2.66 2001:db8::66"), "transfer {\n to *\n}", "file "+write(t, "db.example.org", zone)+" example.org"))
	rrs, err := transfer(new(dns.Msg).SetAxfr("example.org."), s.tcp(), home, "")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string][]string)
	for _, rr := range rrs {
		name, _, _ := strings.Cut(rr.Header().Name, ".")
		got[name] = append(got[name], addresses(&dns.Msg{Answer: []dns.RR{rr}})...)
	}
	for name, want := range map[string]string{
		"all":     "127.0.0.2 127.0.0.3",
		"primary": "127.0.0.2 127.0.0.3",
		"next":    "192.0.2.81",
		"none":    "",
		"nx":      "",
		"own":     "192.0.2.66 2001:db8::66",
	} {
		if have := strings.Join(slices.Sorted(slices.Values(got[name])), " "); have != want {
			t.Errorf("With fallback %s there are the addresses %q, want %q", name, have, want)
		}
	}
}

// A failure cannot be transferred: what went out before stays.
func TestTransferFailure(t *testing.T) {
	for _, word := range []string{"servfail", "refused"} {
		t.Run(word, func(t *testing.T) {
			h, gone := member(t, "127.0.0.2"), member(t, "127.0.0.3")
			s := start(t, block(
				"failover {\n interval 100ms\n recheck 20ms\n ttl 30s\n}",
				fmt.Sprintf("failover www.example.org %s {\n fallback %s\n}", h, word),
				fmt.Sprintf("failover beside.example.org %s %s", h, gone),
				"transfer {\n to *\n}", file(t)))
			zone := func(name string) string {
				rrs, err := transfer(new(dns.Msg).SetAxfr("example.org."), s.tcp(), home, "")
				if err != nil {
					t.Fatal(err)
				}
				return strings.Join(addresses(&dns.Msg{Answer: slices.DeleteFunc(rrs, func(rr dns.RR) bool { return rr.Header().Name != name })}), " ")
			}
			if got := zone("www.example.org."); got != "127.0.0.2" {
				t.Fatalf("The address is %q, want that of the member", got)
			}
			h.stop()
			eventually(t, bound, "the other pool has changed", func() bool { return zone("beside.example.org.") == "127.0.0.3" })
			eventually(t, bound, "the pool fails", func() bool { return s.ask("www.example.org.", dns.TypeA).Rcode != dns.RcodeSuccess })
			if got := zone("www.example.org."); got != "127.0.0.2" {
				t.Errorf("With fallback %s the address is %q, want what it was", word, got)
			}
		})
	}
}

// A zone that no secondary would take is refused, and the log says why.
func TestTransferWithoutNS(t *testing.T) {
	bare := write(t, "db.example.org", "@ 3600 IN SOA ns hostmaster 1 7200 1800 86400 300\nmail 3600 IN A 192.0.2.25\n")
	for what, lines := range map[string][]string{
		"pools only":  {upPool(t, "www.example.org")},
		"a zone file": {upPool(t, "www.example.org"), "file " + bare + " example.org"},
	} {
		t.Run(what, func(t *testing.T) {
			said := record(t)
			s := start(t, block(append(lines, "transfer {\n to *\n}")...))
			for _, m := range []*dns.Msg{new(dns.Msg).SetAxfr("example.org."), new(dns.Msg).SetIxfr("example.org.", 1, "ns.", "hostmaster.")} {
				if r := exchange(t, s.tcp(), "tcp", m); r.Rcode != dns.RcodeRefused {
					t.Errorf("The answer to %s is %s, want REFUSED", title(m), dns.RcodeToString[r.Rcode])
				}
			}
			if lines := said("plugin/failover: "); !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "NS record") }) {
				t.Errorf("The log says %q, want that NS records are missing", lines)
			}
			wantAddresses(t, s.ask("www.example.org.", dns.TypeA), usual...)
		})
	}
}

// Who is not listed gets nothing, nor does who asks over UDP, or for a name inside the zone.
func TestTransferUnlisted(t *testing.T) {
	port := lowPort(t, home)
	s := start(t, "example.org:"+port+" {\n bind 127.0.0.1\n "+upPool(t, "www.example.org")+"\n "+file(t)+"\n transfer {\n to 127.0.0.54\n}\n}")
	if rrs, err := wholeZone(s.tcp(), "127.0.0.54", ""); err != nil || !slices.Contains(rrs, "www.example.org.\t7\tin\ta\t127.0.0.3") {
		t.Errorf("Who is listed gets %q, %v", rrs, err)
	}
	if rrs, err := wholeZone(s.tcp(), "127.0.0.55", ""); err == nil {
		t.Errorf("Who is not listed gets %q", rrs)
	}
	if r := exchange(t, s.udp(), "udp", new(dns.Msg).SetAxfr("example.org.")); r.Rcode == dns.RcodeSuccess {
		t.Errorf("Over UDP the answer is\n%v", r)
	}
	if rrs, err := transfer(new(dns.Msg).SetAxfr("www.example.org."), s.tcp(), "127.0.0.54", ""); err == nil {
		t.Errorf("For a pool's name there is the zone\n%v", rrs)
	}
}

// A restart finds a greater serial than went out before, however soon it is and however often the zone has changed: the
// secondaries would take another zone with the same serial for the one they have.
func TestTransferRestart(t *testing.T) {
	h, other := member(t, "127.0.0.2"), member(t, "127.0.0.3")
	for what, lines := range map[string][]string{
		"a zone file": {file(t)},
		"pools only":  {"failover {\n soa ns.example.org hostmaster.example.org\n ns ns.example.org\n}"},
	} {
		t.Run(what, func(t *testing.T) {
			port := lowPort(t, home)
			corefile := "example.org:" + port + " {\n bind 127.0.0.1\n transfer {\n to *\n}\n" + strings.Join(lines, "\n") +
				fmt.Sprintf("\nfailover www.example.org %s %s {\n interval 100ms\n recheck 20ms\n ttl 30s\n}\n}", h, other)
			s := start(t, corefile)
			zone := func() []dns.RR {
				rrs, err := transfer(new(dns.Msg).SetAxfr("example.org."), s.tcp(), home, "")
				if err != nil {
					t.Fatal(err)
				}
				return rrs
			}
			turn := func() {
				if h.server == nil {
					h.start()
				} else {
					h.stop()
				}
			}
			for i := range 4 {
				before := zone()
				turn()
				eventually(t, bound, "the change goes out", func() bool { return !slices.Equal(contents(zone()), contents(before)) })
				before = zone()
				if i%2 == 1 {
					s.stop()
					turn()
					s = start(t, corefile)
					if was, now := serialIn(before), serialIn(zone()); now-was-1 >= 1<<31-1 {
						t.Errorf("The serial of another zone after a restart is %d, before it was %d", now, was)
					}
				}
			}
		})
	}
}

// editions checks that what goes out under one serial is always the same.
type editions struct {
	t         testing.TB
	mu        sync.Mutex
	known     map[uint32][]string
	whole     atomic.Int64
	increment atomic.Int64
	broken    atomic.Int64
}

func (e *editions) check(how string, zone []dns.RR) {
	serial, now := serialIn(zone), contents(zone)
	e.mu.Lock()
	defer e.mu.Unlock()
	if was := e.known[serial]; was == nil {
		e.known[serial] = now
	} else if !slices.Equal(was, now) {
		e.t.Errorf("Serial %d %s is another zone than before:\n%s", serial, how, onlyOne(was, now))
	}
}

// follow is a secondary that asks all the time, and now and then begins anew.
func (e *editions) follow(addr string, stop <-chan struct{}) {
	for {
		zone, err := transfer(new(dns.Msg).SetAxfr("example.org."), addr, home, "")
		if e.failed(err) {
			zone = nil
		} else {
			e.whole.Add(1)
			e.check("as a whole", zone)
		}
		for range 30 {
			select {
			case <-stop:
				return
			default:
			}
			if zone == nil {
				break
			}
			changes, err := transfer(new(dns.Msg).SetIxfr("example.org.", serialIn(zone), "ns.", "hostmaster."), addr, home, "")
			if e.failed(err) {
				continue
			}
			if zone, err = patched(zone, changes); err != nil {
				e.t.Errorf("The changes do not fit: %v", err)
				return
			}
			if len(changes) > 1 {
				e.increment.Add(1)
			}
			e.check("by its changes", zone)
		}
	}
}

// failed says whether a transfer has failed. It may lose its connection in a reload.
func (e *editions) failed(err error) bool {
	var op *net.OpError
	switch {
	case err == nil:
		return false
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.As(err, &op):
		e.broken.Add(1)
	default:
		e.t.Errorf("A transfer has failed: %v", err)
	}
	return true
}

// Under load, over reloads and transitions, what goes out under one serial stays the same, each change leads from one
// zone to the next, and at last the secondaries have what is answered.
func TestTransferUnderLoad(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	places := newSecondaries(t)
	path := write(t, "db.example.org", zoneFile)
	corefile := func(i int) string {
		lines := []string{
			fmt.Sprintf("failover {\n probe http://\n interval 100ms\n recheck 20ms\n ttl %ds\n}", 30+i%3),
			fmt.Sprintf("failover www.example.org *.wild.example.org {\n primary %s %s\n backup %s\n srv http\n https\n}", hosts[0], hosts[1], hosts[2]),
			"file " + path + " example.org {\n reload 200ms\n}", places.to(),
		}
		if i%2 == 1 {
			lines = append(lines, fmt.Sprintf("failover new.example.org %s", hosts[2]))
		}
		return places.primaryBlock(lines...)
	}
	r := &rig{TB: t, secondaries: places, hosts: hosts, took: make(map[string][]time.Duration)}
	r.server = start(t, corefile(0))
	r.start(t, "")
	e := &editions{t: t, known: make(map[uint32][]string)}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { e.follow(r.primary, stop) })
	}
	pace := time.NewTicker(250 * time.Millisecond)
	defer pace.Stop()
	for i := 1; i <= 40 && !t.Failed(); i++ {
		<-pace.C
		switch i % 4 {
		case 0:
			if err := renew(t, r.server, corefile(i/4)); err != nil {
				t.Errorf("Reload %d failed: %v", i, err)
			}
		case 1:
			replace(t, path, strings.Replace(zoneFile, "2026110101", fmt.Sprint(2026110101+i), 1)+fmt.Sprintf("version 60 IN A 127.1.0.%d\n", i))
		default:
			status := http.StatusOK
			if hosts[i%3].status.Load() == http.StatusOK {
				status = http.StatusServiceUnavailable
			}
			hosts[i%3].answer(status)
		}
	}
	close(stop)
	wg.Wait()
	t.Logf("%d whole transfers and %d of changes, %d lost their connection, %d editions", e.whole.Load(), e.increment.Load(), e.broken.Load(), len(e.known))
	if e.whole.Load() < 10 || e.increment.Load() < 10 || len(e.known) < 5 {
		t.Error("That is too little to say anything")
	}
	hosts[0].answer(http.StatusOK)
	eventually(t, bound, "the primary is up", func() bool {
		return slices.Contains(addresses(r.ask("www.example.org.", dns.TypeA)), "127.0.0.2")
	})
	r.settle("After the load")
}
