package test

import (
	"testing"
	"time"

	"github.com/miekg/dns"
)

// With watch it does not take an interval to find out that a process has died, nor that it is back and has died again.
func TestWatch(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	s := start(t, block("failover {\n interval 1h\n recheck 50ms\n timeout 500ms\n probe http:// watch\n}",
		"failover www.example.org "+hosts[0].addr+" "+hosts[1].addr))
	answers := func(want string) func() bool {
		return func() bool {
			m := s.ask("www.example.org.", dns.TypeA)
			return len(addresses(m)) > 0 && addresses(m)[0] == want
		}
	}
	eventually(t, bound, "the first member answers", answers("127.0.0.2"))
	time.Sleep(200 * time.Millisecond) // for the connection, which nothing shows
	began := time.Now()
	hosts[0].stop()
	eventually(t, bound, "the second does", answers("127.0.0.3"))
	t.Logf("It took %s to find out that a process has died", time.Since(began).Round(time.Millisecond))
}
