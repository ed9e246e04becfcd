package bench

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/internal/directives"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
)

func init() { children["memory"] = memory }

// memory is a CoreDNS with so many members in so many pools, all of which are probed. It prints how long it took
// to start, its resident memory once each member has been asked a few times, and what of it is in use.
func memory() error {
	pools, _ := strconv.Atoi(os.Getenv("POOLS"))
	members, _ := strconv.Atoi(os.Getenv("MEMBERS"))
	wait, err := time.ParseDuration(os.Getenv("WAIT"))
	if err != nil {
		return err
	}
	dnsserver.Quiet = true
	if err := directives.Insert(); err != nil {
		return err
	}
	began := time.Now()
	instance, err := caddy.Start(caddy.CaddyfileInput{Filepath: "Corefile", Contents: corefile(pools, members, os.Getenv("PORT")), ServerTypeName: "dns"})
	if err != nil {
		return err
	}
	took := time.Since(began)
	time.Sleep(wait)
	resident := resident()
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	if path := os.Getenv("PROFILE"); path != "" {
		var b bytes.Buffer
		pprof.WriteHeapProfile(&b)
		os.WriteFile(path, b.Bytes(), 0o600)
	}
	fmt.Println(took.Milliseconds(), resident, s.HeapAlloc)
	runtime.KeepAlive(instance)
	return nil
}

// corefile has so many pools, which share so many members as evenly as can be, each an address of its own.
func corefile(pools, members int, port string) []byte {
	var b bytes.Buffer
	b.WriteString("many.test:0 {\nbind 127.0.0.1\nfailover {\ninterval 10s\nstartup 0s\n}\n")
	for p := range pools {
		fmt.Fprintf(&b, "failover n%d.many.test", p)
		for i := p * members / pools; i < (p+1)*members/pools; i++ {
			fmt.Fprintf(&b, " %s:%s", address(i), port)
		}
		b.WriteString("\n")
	}
	b.WriteString("}\n")
	return bytes.Clone(b.Bytes()) // a file is not read into more than it takes
}

// resident is the memory of this process that is in use, in bytes.
func resident() int {
	status, _ := os.ReadFile("/proc/self/status")
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, _ := strconv.Atoi(strings.Fields(after)[0])
	return kilobytes << 10
}

// use is what one run of memory has found.
type use struct {
	start          time.Duration
	resident, heap int
}

func measureMemory(tb testing.TB, pools, members int, port uint16, wait time.Duration) use {
	tb.Helper()
	lines, stop := child(tb, "memory", fmt.Sprint("POOLS=", pools), fmt.Sprint("MEMBERS=", members), fmt.Sprint("PORT=", port), fmt.Sprint("WAIT=", wait))
	defer stop()
	if !lines.Scan() {
		tb.Fatal("The process for ", members, " members has said nothing")
	}
	var u use
	var ms int
	fmt.Sscan(lines.Text(), &ms, &u.resident, &u.heap)
	u.start = time.Duration(ms) * time.Millisecond
	return u
}

// A member is a few hundred bytes, and a pool a few hundred more. What is resident is about twice what is in use:
// that is for Go's collector to say, and changes from run to run, so the test is of what is in use.
func TestMemory(t *testing.T) {
	if underRace {
		t.Skip("The race detector would be most of it")
	}
	members, wait := 20_000, 4*time.Second
	if *full {
		members, wait = 100_000, 150*time.Second
	}
	port, _ := startMembers(t)
	none := measureMemory(t, 1, 1, port, time.Second)
	t.Logf("%d MiB resident without members", none.resident>>20)
	for _, tc := range []struct{ each, most int }{{4, 500}, {1, 1000}} { // bytes of each member
		u := measureMemory(t, members/tc.each, members, port, wait)
		used := (u.heap - none.heap) / members
		t.Logf("%d members, %d in each pool: started in %s, %d MiB more resident, %d bytes a member, of which %d are in use", members, tc.each, u.start,
			(u.resident-none.resident)>>20, (u.resident-none.resident)/members, used)
		if used > tc.most {
			t.Errorf("A member of pools of %d takes %d bytes, want %d at most", tc.each, used, tc.most)
		}
		if u.start > time.Minute {
			t.Errorf("To start took %s", u.start)
		}
	}
}
