package test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-failover/failover/internal/directives"

	"github.com/coredns/coredns/coremain"

	"github.com/miekg/dns"
)

// The environment says when this program is to be CoreDNS, as cmd/coredns is, and not a test.
const asCoreDNS = "FAILOVER_TEST_AS_COREDNS"

func init() {
	if os.Getenv(asCoreDNS) != "" {
		if err := directives.Insert(); err != nil {
			panic(err)
		}
		coremain.Run()
		os.Exit(0)
	}
}

// program starts CoreDNS as a process of its own. Its output comes line by line; end gives its exit
// status and when that was.
func program(t testing.TB, corefile string) (process *os.Process, output <-chan string, end <-chan string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-conf", write(t, "Corefile", corefile))
	cmd.Env = append(os.Environ(), asCoreDNS+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, ended := make(chan string, 1000), make(chan string, 1)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
		_ = cmd.Wait()
		ended <- cmd.ProcessState.String()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd.Process, lines, ended
}

// On SIGTERM a server goes on to answer for as long as its lameduck says, and the answers go on to be
// right: a member that dies meanwhile is seen.
func TestTerminate(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	port := freePort(t)
	corefile := strings.Replace(block("health 127.0.0.1:"+freePort(t)+" {\n lameduck 3s\n }",
		fmt.Sprintf("failover www.example.org %s {\n probe http://\n backup %s\n interval 200ms\n recheck 20ms\n }", hosts[0], hosts[1])),
		":0 ", ":"+port+" ", 1)
	process, output, end := program(t, corefile)
	answer := func() []string {
		c := &dns.Client{Timeout: time.Second}
		r, _, err := c.Exchange(question("www.example.org.", dns.TypeA), home+":"+port)
		if err != nil {
			return nil
		}
		return addresses(r)
	}
	eventually(t, 30*time.Second, "the primary is the answer", func() bool { return slices.Equal(answer(), []string{"127.0.0.2"}) })

	if err := process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	eventually(t, bound, "it goes into lameduck mode", func() bool {
		select {
		case line := <-output:
			return strings.Contains(line, "lameduck")
		default:
			return false
		}
	})
	hosts[0].answer(http.StatusServiceUnavailable)
	if !within(time.Until(begin.Add(2500*time.Millisecond)), func() bool { return slices.Equal(answer(), []string{"127.0.0.3"}) }) {
		t.Errorf("The answer after SIGTERM stays %v, though that member has died", answer())
	}
	select {
	case status := <-end:
		if took := time.Since(begin); status != "exit status 0" || took < 3*time.Second {
			t.Errorf("The process ended with %q after %s, want status 0 after the lameduck of 3s", status, took)
		}
	case <-time.After(bound):
		t.Error("The process did not end")
	}
	for line := range output {
		if strings.Contains(line, "ERROR") || strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") {
			t.Errorf("It said %q", line)
		}
	}
	for _, h := range hosts {
		asked := h.asked.Load()
		time.Sleep(500 * time.Millisecond)
		if h.asked.Load() != asked {
			t.Error("A member is still asked")
		}
	}
}

// OnShutdown is called long before the last query: probing goes on until OnFinalShutdown, and ends there.
func TestShutdownCallbacks(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	s := start(t, block(pool("www.example.org", hosts)))
	goroutines, _ := footprint(t)
	for _, call := range s.OnShutdown {
		if err := call(); err != nil {
			t.Error(err)
		}
	}
	hosts[0].answer(http.StatusServiceUnavailable)
	eventually(t, bound, "a member that dies after OnShutdown is down", func() bool { return len(lines(hosts[0].addr+": up -> down")) == 1 })
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.3")

	for range 2 { // it must bear being called again
		begin := time.Now()
		for _, err := range s.ShutdownCallbacks() {
			t.Error(err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("The callbacks took %s", took)
		}
	}
	still(t, "each member", func() int64 { return hosts[0].asked.Load() + hosts[1].asked.Load() })
	if g, _ := footprint(t); g >= goroutines {
		t.Errorf("There are %d goroutines, want less than the %d there were while probing", g, goroutines)
	}
	// The servers are stopped after that; what was known last is what they say until then.
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.3")
	if names := seriesOf(t, "www.example.org."); slices.Contains(names, "coredns_failover_member_up") {
		t.Errorf("There are still series: %q", names)
	}
}

// A member that does not answer does not hold up the end.
func TestShutdownWhileProbing(t *testing.T) {
	h := member(t, "127.0.0.2")
	h.answer(silent)
	s := start(t, block(fmt.Sprintf("failover www.example.org %s {\n probe http://\n interval 1m\n timeout 1m\n startup 100ms\n}", h)))
	begin := time.Now()
	s.stop()
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("The end took %s with a probe under way", took)
	}
}
