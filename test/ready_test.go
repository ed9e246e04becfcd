package test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// poll is what an HTTP endpoint says over time.
type poll struct {
	mu    sync.Mutex
	said  []saying
	over  chan struct{}
	ended sync.WaitGroup
}

type saying struct {
	at   time.Time
	text string // such as "503 failover"; empty while nobody listens
}

// polling begins to ask an endpoint every few milliseconds, until the test ends.
func polling(t testing.TB, url string) *poll {
	t.Helper()
	p := &poll{over: make(chan struct{})}
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	p.ended.Go(func() {
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-p.over:
				return
			case <-pace.C:
			}
			var s saying
			if r, err := client.Get(url); err == nil {
				body, _ := io.ReadAll(r.Body)
				r.Body.Close()
				s.text = fmt.Sprint(r.StatusCode, " ", string(body))
			}
			s.at = time.Now()
			p.mu.Lock()
			p.said = append(p.said, s)
			p.mu.Unlock()
		}
	})
	t.Cleanup(p.stop)
	return p
}

// stop ends it. It may be called more than once.
func (p *poll) stop() {
	select {
	case <-p.over:
	default:
		close(p.over)
	}
	p.ended.Wait()
}

// first is when something was said first that begins with text.
func (p *poll) first(text string) (at time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.said, func(s saying) bool { return strings.HasPrefix(s.text, text) })
	if i < 0 {
		return time.Time{}, false
	}
	return p.said[i].at, true
}

// count is how often something was said that begins with text.
func (p *poll) count(text string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.said {
		if strings.HasPrefix(s.text, text) {
			n++
		}
	}
	return n
}

// CoreDNS keeps one entry for a plugin, whatever the number of server blocks. What it says has to hold
// for all of them.
func TestReadyOfSeveralBlocks(t *testing.T) {
	for at := range 3 {
		t.Run(fmt.Sprint("Silent in block ", at), func(t *testing.T) {
			address := "127.0.0.1:" + freePort(t)
			var corefile strings.Builder
			for i := range 3 {
				h := member(t, fmt.Sprint("127.0.0.", 2+i))
				if i == at {
					h.answer(silent)
				}
				corefile.WriteString(strings.ReplaceAll(block("ready "+address,
					fmt.Sprintf("failover www.example.org %s {\n probe http://\n startup 1s\n}", h)), "example.org", fmt.Sprintf("zone%d.example.org", i)))
			}
			p := polling(t, "http://"+address+"/ready")
			begin := time.Now()
			start(t, corefile.String())
			eventually(t, bound, "it is ready", func() bool { _, ok := p.first("200"); return ok })
			// It takes three timeouts until a silent member is down; nobody waits for that.
			ready, _ := p.first("200")
			if took := ready.Sub(begin); took < time.Second || took > 3*time.Second {
				t.Errorf("It was ready after %s, want the startup of 1s", took)
			}
			if n := p.count("503 failover"); n == 0 {
				t.Error("It never said that it is not ready")
			}
			p.stop()
		})
	}
}

// It tells whether the members have been asked, and never whether they are up; and once said it holds,
// over reloads and over those that fail.
func TestReadyStays(t *testing.T) {
	for _, monitor := range []string{"until-ready", "continuously"} {
		t.Run(monitor, func(t *testing.T) {
			lines := record(t)
			hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
			address := "127.0.0.1:" + freePort(t)
			ready := fmt.Sprintf("ready %s {\n monitor %s\n}", address, monitor)
			corefile := func(hosts ...*host) string { return block(ready, pool("www.example.org", hosts, "startup 500ms")) }
			p := polling(t, "http://"+address+"/ready")
			s := start(t, corefile(hosts[0], hosts[1]))
			eventually(t, bound, "it is ready", func() bool { _, ok := p.first("200"); return ok })
			before := p.count("503")

			hosts[0].answer(http.StatusServiceUnavailable)
			hosts[1].answer(http.StatusServiceUnavailable)
			eventually(t, bound, "all members are down", func() bool { return len(lines("up -> down")) == 2 })
			hosts[2].answer(silent)
			taken := takenPort(t)
			for i := range 3 {
				if err := renew(t, s, corefile(hosts[i%2], hosts[2])); err != nil { // it waits for the silent one
					t.Fatal(err)
				}
				for _, wrong := range []string{corefile(hosts...) + onPort(taken), block(ready, "failover www.example.org")} {
					if err := renew(t, s, wrong); err == nil {
						t.Fatal("The reload was to fail")
					}
				}
				asked := p.count("200")
				if !within(bound, func() bool { return p.count("200") > asked }) {
					t.Error("The endpoint is not there any more")
				}
			}
			p.stop()
			// While it is shut down for a reload the endpoint itself may say so, and nothing of a plugin.
			if n := p.count("503") - p.count("503 Shutting down") - before; n > 0 {
				t.Errorf("It said %d times that it is not ready", n)
			}
		})
	}
}

// A server that takes failover up in a reload answered before, and does so while it waits.
func TestReadyFirstReload(t *testing.T) {
	h := member(t, "127.0.0.2")
	h.answer(silent)
	ready := fmt.Sprintf("ready 127.0.0.1:%s {\n monitor continuously\n}", freePort(t))
	p := polling(t, "http://"+strings.Fields(ready)[1]+"/ready")
	s := start(t, block(ready, "whoami"))
	eventually(t, bound, "it is ready", func() bool { _, ok := p.first("200"); return ok })
	if err := renew(t, s, block(ready, fmt.Sprintf("failover www.example.org %s {\n probe http://\n startup 1s\n}", h))); err != nil {
		t.Fatal(err)
	}
	asked := p.count("200")
	eventually(t, bound, "it is ready", func() bool { return p.count("200") > asked })
	p.stop()
	if n := p.count("503 failover"); n > 0 {
		t.Errorf("It said %d times that it is not ready", n)
	}
}
