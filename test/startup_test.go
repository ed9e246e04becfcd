package test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// All server blocks are waited for together.
func TestStartupOfSeveralBlocks(t *testing.T) {
	var corefile strings.Builder
	for i := range 5 {
		h := member(t, fmt.Sprint("127.0.0.", 2+i))
		h.answer(silent)
		corefile.WriteString(blockOn(fmt.Sprint("127.0.0.", 101+i),
			fmt.Sprintf("failover www.example.org %s {\n probe http://\n startup 1s\n}", h)))
	}
	begin := time.Now()
	s := start(t, corefile.String())
	if took := time.Since(begin); took < time.Second || took > 3*time.Second {
		t.Errorf("The start took %s, want the startup of 1s, once", took)
	}
	// A member that nothing is known of counts as up.
	for i := range 5 {
		m := exchange(t, s.udp(fmt.Sprint("127.0.0.", 101+i)), "udp", question("www.example.org.", dns.TypeA))
		wantAddresses(t, m, fmt.Sprint("127.0.0.", 2+i))
	}
}

// The time that one pool may take is no excuse for another.
func TestStartupOfEach(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	hosts[1].answer(silent)
	begin := time.Now()
	start(t, block(
		pool("quick.example.org", hosts[:1], "startup 1m"),
		fmt.Sprintf("failover silent.example.org %s {\n probe http://\n startup 500ms\n}", hosts[1])))
	if took := time.Since(begin); took < 500*time.Millisecond || took > 3*time.Second {
		t.Errorf("The start took %s, want the startup of the one that does not answer, 500ms", took)
	}
}

// Without a startup nobody waits, and with members that answer nobody waits for its end.
func TestStartupShort(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	for property, status := range map[string]int{"startup 0s": silent, "startup 10m": 200} {
		hosts[1].answer(status)
		begin := time.Now()
		s := start(t, block(pool("www.example.org", hosts, property)))
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("With %s the start took %s", property, took)
		}
		wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2", "127.0.0.3")
		s.stop()
	}
}

// The very first answer is right: nobody is ever sent to a primary that was dead before the start.
func TestFirstAnswer(t *testing.T) {
	dead := deadMember(t)
	backup := member(t, "127.0.0.3")
	for range 5 {
		port := freePort(t)
		first := make(chan []string, 1)
		over := make(chan struct{})
		go func() {
			// One query after the other, from before the server listens.
			for {
				select {
				case <-over:
					close(first)
					return
				default:
				}
				c := &dns.Client{Timeout: 20 * time.Millisecond}
				r, _, err := c.Exchange(question("www.example.org.", dns.TypeA), net.JoinHostPort(home, port))
				if err == nil {
					first <- addresses(r)
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		s := start(t, strings.Replace(block(fmt.Sprintf("failover www.example.org %s {\n backup %s\n recheck 100ms\n}", dead, backup)), ":0 ", ":"+port+" ", 1))
		select {
		case got := <-first:
			if !slices.Equal(got, []string{"127.0.0.3"}) {
				t.Errorf("The first answer was %v, want the backup", got)
			}
		case <-time.After(bound):
			close(over)
			t.Fatal("There was no answer")
		}
		s.stop()
	}
}
