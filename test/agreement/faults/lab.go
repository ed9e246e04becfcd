package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coredns-failover/failover/test/sandbox"
)

const port = "1053"

// programs are the CoreDNS, and the same with a clock that is wrong: see skewed.sh.
type programs struct{ right, skewed string }

// lab is three sites and what is between them. Several of them have nothing to do with each other.
type lab struct {
	number   int
	programs programs
	clocks   clocks
	dir      string
	servers  [sites]*sandbox.Process
	etcd     [sites]*sandbox.Process
	members  *sandbox.Process
	rules    [sites][]string
	replicas replicas
	ballots  ballots
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

// build makes the hosts, starts everything, and waits until all sites are in touch. What is returned has to be ended in
// any case.
func build(number int, p programs, c clocks) (l *lab, err error) {
	l = &lab{number: number, programs: p, clocks: c, cancel: func() {}}
	l.ballots.now = make(map[string]ballot)
	if err := l.connect(); err != nil {
		return l, err
	}
	if l.dir, err = os.MkdirTemp("", "faults"); err != nil {
		return l, err
	}
	self, err := os.Executable()
	if err != nil {
		return l, err
	}
	l.members, err = sandbox.Start(l.in("members", self, append([]string{"members"}, l.everyMember()...)...))
	if err != nil {
		return l, err
	}
	if err := l.startEtcd(); err != nil {
		return l, err
	}
	if _, err := l.leader(); err != nil {
		return l, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	for i, endpoint := range l.endpoints() {
		l.wg.Go(func() { l.follow(ctx, endpoint) })
		l.replicas[i].setAway(true)
		l.wg.Go(func() { l.query(ctx, i, "www.example.org.", &l.replicas[i]) })
	}
	if err := l.serve(0, 1, 2); err != nil {
		return l, err
	}
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if l.inTouch() && l.replicas.all("1 2") {
			return l, nil
		}
		if time.Since(begin) > 20*time.Second {
			return l, errors.New("the sites do not get in touch")
		}
	}
}

// in is a command at a host.
func (l *lab) in(host, program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", l.space(host), program}, args...)...)
}

// serve starts the CoreDNS of sites, and waits until they answer.
func (l *lab) serve(some ...int) error {
	begin := time.Now()
	for _, i := range some {
		if err := l.start(i); err != nil {
			return err
		}
	}
	for _, i := range some {
		if _, err := await(30*time.Second, names[i]+" answers", func() bool {
			return l.servers[i].Ended() || l.replicas[i].answeredSince(begin)
		}); err != nil || l.servers[i].Ended() {
			return fmt.Errorf("%s does not answer:\n%s", names[i], l.servers[i].Said())
		}
		l.replicas[i].setAway(false)
		if err := l.checkClock(i); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) start(site int) error {
	corefile := filepath.Join(l.dir, "Corefile."+names[site])
	err := os.WriteFile(corefile, fmt.Appendf(nil, `example.org:%s {
    bind %s
    errors
    prometheus %[2]s:9153
    failover {
        share etcd %[3]s site %[4]s
        status unix://%[5]s
        probe http://:8080/healthz
        interval 1s
        recheck 200ms
        timeout 500ms
    }
    failover www.example.org {
        primary %[6]s %[7]s
        backup %[8]s
    }
    failover held.example.org {
        primary %[9]s
        backup %[10]s
        failback manual
    }
}
`, port, l.site(site), strings.Join(l.endpoints(), " "), names[site], l.socket(site), l.member(0), l.member(1), l.member(2), l.member(3), l.member(4)), 0o644)
	if err != nil {
		return err
	}
	cmd := l.in(names[site], l.programs.right, "-conf", corefile)
	if skew := l.clocks[site]; skew != 0 {
		cmd = l.in(names[site], l.programs.skewed, "-conf", corefile)
		cmd.Env = append(os.Environ(), fmt.Sprintf("FAULTS_SKEW=%.0f", skew.Seconds()))
	}
	l.servers[site], err = sandbox.Start(cmd)
	return err
}

func (l *lab) socket(site int) string { return filepath.Join(l.dir, names[site]+".sock") }

// kill ends the CoreDNS of a site without a word.
func (l *lab) kill(site int) {
	l.replicas[site].setAway(true)
	l.servers[site].Signal(syscall.SIGKILL)
	l.servers[site].End(time.Second)
}

// end ends everything.
func (l *lab) end() {
	l.cancel()
	l.wg.Wait()
	for i, p := range l.servers {
		if p != nil && p.End(15*time.Second) {
			fmt.Fprintf(os.Stderr, "%s had to be killed\n", names[i])
		}
	}
	for _, p := range append(l.etcd[:], l.members) {
		if p != nil {
			p.Signal(syscall.SIGKILL)
			p.End(time.Second)
		}
	}
	if l.dir != "" {
		os.RemoveAll(l.dir)
	}
}

// say shows what the processes have said.
func (l *lab) say() {
	for i, name := range names {
		fmt.Fprintf(os.Stderr, "--- CoreDNS of %s\n%s--- etcd of %[1]s\n%[3]s", name, l.servers[i].Said(), l.etcd[i].Said())
	}
}

// inTouch says whether each of some sites counts the votes of the others among them; none: of all sites.
func (l *lab) inTouch(some ...int) bool {
	if len(some) == 0 {
		some = []int{0, 1, 2}
	}
	for _, i := range some {
		text := l.metrics(i)
		for _, j := range some {
			if !strings.Contains(text, fmt.Sprintf("coredns_failover_site_fresh{site=%q} 1\n", names[j])) {
				return false
			}
		}
	}
	return true
}

// metrics are those of a site; "": it does not say.
func (l *lab) metrics(site int) string {
	c := http.Client{Timeout: 2 * time.Second}
	r, err := c.Get("http://" + l.site(site) + ":9153/metrics")
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return ""
	}
	return string(b)
}
