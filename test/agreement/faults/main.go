// Command faults runs failover at three sites, each a CoreDNS and a member of an etcd of three, and breaks what is between
// them: sites are cut off, etcd dies, is set back and lies, replicas are killed, clocks are wrong. Fifty queries a second
// ask each site meanwhile.
//
// It fails when a query is not answered at once, when a site changes its answer though no vote says so, when sites that
// are in touch do not agree, or when one that was cut off does not come back as it should. It says what it has measured.
// Everything is in a sandbox, and ends with it.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/test/sandbox"
)

func main() {
	if len(os.Args) > 2 {
		host(os.Args[1], os.Args[2:])
	}
	var p programs
	flag.StringVar(&p.right, "coredns", "coredns", "the program")
	flag.StringVar(&p.skewed, "skewed", "coredns-skewed", "the program that skewed.sh makes of it")
	gone := flag.Duration("gone", 45*time.Second, "how long etcd is gone")
	run := flag.String("run", "", "the faults whose names match, instead of all")
	keep := flag.Bool("v", false, "show what the processes have said where something went wrong")
	flag.Parse()
	which, err := regexp.Compile(*run)
	if err != nil {
		fail(err)
	}
	code, in, err := sandbox.Enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "The faults cannot be made:", err)
	}
	if !in || err != nil {
		os.Exit(code)
	}
	time.AfterFunc(*gone+5*time.Minute, func() { fail(fmt.Errorf("the faults do not end by themselves")) })

	var wg sync.WaitGroup
	var ran, failed atomic.Int64
	for i, lane := range lanes(*gone) {
		wg.Go(func() {
			n, withstood := lane.run(i, p, which, *keep)
			ran.Add(int64(n))
			if !withstood {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if failed.Load() > 0 || ran.Load() == 0 {
		fail(fmt.Errorf("%d faults were made, and %d not withstood", ran.Load(), failed.Load()))
	}
	fmt.Printf("%d faults, all withstood\n", ran.Load())
}

// run makes those faults of a lane whose names match, one after the other, up to the first that is not withstood: what
// comes next would begin with what is left of that one. It says how many it has made.
func (ln lane) run(number int, p programs, which *regexp.Regexp, keep bool) (ran int, withstood bool) {
	faults := slices.DeleteFunc(ln.faults, func(f fault) bool { return !which.MatchString(f.name) })
	if len(faults) == 0 {
		return 0, true
	}
	l, err := build(number, p, ln.clocks)
	defer l.end()
	if err != nil {
		fmt.Fprintf(os.Stderr, "Nothing to break: %v\n", err)
		return 0, false
	}
	for i, f := range faults {
		if !l.suffer(f) {
			if keep {
				l.say()
			}
			return i + 1, false
		}
	}
	return len(faults), true
}

// host is this program at a host of a lab: what it does is the first argument, and otherwise it returns.
func host(what string, args []string) {
	switch what {
	case "members":
		fail(serveMembers(args))
	case "etcd":
		fail(serveEtcd(args))
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, cmp.Or(err, fmt.Errorf("it has ended")))
	os.Exit(1)
}
