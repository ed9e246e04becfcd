package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What is asked of each replica: together a thousand queries a second.
const (
	askers = 10
	rate   = 50
)

// soak lets it all happen at once for so long, and says what was wrong.
func (l *lab) soak(lasts time.Duration, rng *rand.Rand) error {
	time.Sleep(bound) // all is well, and known to be
	end := time.Now().Add(lasts)
	var (
		t      tally
		wg     sync.WaitGroup
		count  = make(map[string]int)
		sizes  [replicas][]size
		failed = make(chan error, 2)
	)
	begin := time.Now()
	before := l.dropped()
	for r := range replicas {
		for range askers {
			wg.Go(func() { l.query(r, rate, end, &t) })
		}
		wg.Go(func() { l.queryTCP(r, 200*time.Millisecond, end, &t) })
	}
	wg.Go(func() { l.watch(end) })
	wg.Go(func() { failed <- l.chaos(rng, end, count) })
	wg.Go(func() { failed <- l.reconfigure(end) })
	wg.Go(func() {
		for every := max(lasts/60, time.Second); time.Now().Before(end); time.Sleep(every) {
			for r := range replicas {
				sizes[r] = append(sizes[r], l.measure(r))
			}
		}
	})
	wg.Wait()
	took := time.Since(begin).Seconds()
	slowest := func(i int) time.Duration { return time.Duration(t.slowest[i].Load()).Round(time.Millisecond) }
	fmt.Printf("%d answers, %.0f a second, the slowest after %v over UDP, %v over TCP; %d lost, %d wrong; faults: %v; netem: %v\n",
		t.answers.Load(), float64(t.answers.Load())/took, slowest(0), slowest(1), t.lost.Load(), t.wrong.Load(), count, l.netem)
	t.say()
	if t.lost.Load() > 0 {
		l.sayDropped(before)
	}
	var errs []error
	for range 2 {
		errs = append(errs, <-failed)
	}
	if t.lost.Load()+t.wrong.Load() > 0 {
		errs = append(errs, errors.New("there were lost or wrong answers"))
	}
	// Behind a machine that is too slow nothing has been tested.
	if got := float64(t.answers.Load()) / took; got < 0.8*askers*rate*replicas {
		errs = append(errs, fmt.Errorf("there were %.0f answers a second", got))
	}
	for r, s := range l.servers {
		errs = append(errs, grown(r, sizes[r]))
		if said := s.Said(); s.Ended() || strings.Contains(said, "panic") || strings.Contains(said, "[ERROR]") {
			errs = append(errs, fmt.Errorf("replica %d says\n%s", r, said[max(0, len(said)-4000):]))
		}
	}
	if err := errors.Join(errs...); err != nil {
		for r, s := range l.servers {
			said := s.Said()
			fmt.Fprintf(os.Stderr, "The end of replica %d's log:\n%s\n", r, said[max(0, len(said)-4000):])
		}
		return err
	}
	return nil
}

// watch finds out when this machine has stood still, which is nobody's fault, and counts from then.
func (l *lab) watch(end time.Time) {
	for last := time.Now(); time.Now().Before(end); last = time.Now() {
		time.Sleep(50 * time.Millisecond)
		if time.Since(last) > time.Second {
			fmt.Printf("This machine stood still for %v\n", time.Since(last).Round(time.Millisecond))
			l.restart()
		}
	}
}

// reconfigure changes the Corefile every minute, twice at least, and waits for it to be in force.
func (l *lab) reconfigure(end time.Time) error {
	every := min(time.Minute, time.Until(end)/3)
	for version := 1; time.Until(end) > every; version++ {
		time.Sleep(every)
		if err := l.configure(version); err != nil {
			return err
		}
		begin := time.Now()
		for r := range replicas {
			for {
				addrs, _, err := ask(r, "udp", fmt.Sprintf("v%d.example.org.", version))
				if err == nil && len(addrs) == 1 {
					break
				}
				if time.Since(begin) > 20*time.Second {
					return fmt.Errorf("replica %d does not take its Corefile: %v, %w", r, addrs, err)
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
		fmt.Printf("Corefile %d is in force after %v\n", version, time.Since(begin).Round(100*time.Millisecond))
	}
	return nil
}

// size is how large a server is.
type size struct{ kilobytes, files, goroutines int }

func (l *lab) measure(replica int) size {
	var s size
	pid := l.servers[replica].Process.Pid
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	s.kilobytes = number(string(status), "VmRSS:")
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	s.files = len(files)
	conn, err := net.DialTimeout("tcp", replicaAddress(replica)+":9153", time.Second)
	if err != nil {
		return s
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	fmt.Fprint(conn, "GET /metrics HTTP/1.0\r\n\r\n")
	page, _ := io.ReadAll(conn)
	s.goroutines = number(string(page), "go_goroutines ")
	return s
}

// sayDropped writes what the kernel has dropped since.
func (l *lab) sayDropped(before map[string]int) {
	for name, n := range l.dropped() {
		if n > before[name] {
			fmt.Fprintf(os.Stderr, "The kernel has dropped %d: %s\n", n-before[name], name)
		}
	}
}

// dropped are the kernel's counters of packets that were dropped for want of room or of time, in the replicas' networks
// and in ours: what tells a query that nobody got from one that nobody answered.
func (l *lab) dropped() map[string]int {
	counters := make(map[string]int)
	networks := map[string]string{"asking": "/proc/self/net"}
	for r, s := range l.servers {
		networks[fmt.Sprintf("replica %d", r)] = fmt.Sprintf("/proc/%d/net", s.Process.Pid)
	}
	for network, dir := range networks {
		for _, file := range []string{"snmp", "netstat"} {
			text, _ := os.ReadFile(dir + "/" + file)
			names, values := []string(nil), []string(nil)
			for line := range strings.Lines(string(text)) {
				if names, values = values, strings.Fields(line); len(names) == 0 || len(names) != len(values) || names[0] != values[0] {
					continue
				}
				for i, name := range names[1:] {
					if n, err := strconv.Atoi(values[i+1]); err == nil && strings.Contains(name, "Err") || strings.Contains(name, "Drop") || strings.Contains(name, "Discards") {
						counters[network+", "+strings.TrimSuffix(names[0], ":")+" "+name] = n
					}
				}
			}
		}
	}
	text, _ := os.ReadFile("/proc/self/net/softnet_stat") // of the whole machine
	for cpu := range strings.Lines(string(text)) {
		if fields := strings.Fields(cpu); len(fields) > 1 {
			n, _ := strconv.ParseInt(fields[1], 16, 64)
			counters["the backlog of a processor"] += int(n)
		}
	}
	return counters
}

// number is the number after a word at the beginning of a line.
func number(text, word string) int {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, word); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}

// grown compares the second quarter with the last.
func grown(replica int, sizes []size) error {
	n := len(sizes)
	if n < 8 {
		return fmt.Errorf("replica %d was measured %d times", replica, n)
	}
	median := func(part []size, of func(size) int) int {
		var all []int
		for _, s := range part {
			all = append(all, of(s))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	var errs []error
	for _, what := range []struct {
		name  string
		of    func(size) int
		share float64 // how much it may grow, in parts
		more  int     // and beyond that
	}{
		{"kB of memory", func(s size) int { return s.kilobytes }, 1.2, 8 << 10},
		{"open files", func(s size) int { return s.files }, 1, 12},
		{"goroutines", func(s size) int { return s.goroutines }, 1, 20},
	} {
		before, after := median(sizes[n/4:n/2], what.of), median(sizes[3*n/4:], what.of)
		fmt.Printf("replica %d: %d %s, later %d\n", replica, before, what.name, after)
		if after > int(float64(before)*what.share)+what.more {
			errs = append(errs, fmt.Errorf("replica %d has grown from %d to %d %s", replica, before, after, what.name))
		}
	}
	return errors.Join(errs...)
}
