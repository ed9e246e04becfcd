// Command faults runs failover at three sites, each a CoreDNS and a member of an etcd of three, and breaks what is between
// them: sites are cut off, etcd dies, is set back and lies, replicas are killed. Fifty queries a second ask each site
// meanwhile.
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
	"sync"
	"time"

	"github.com/coredns-failover/failover/test/sandbox"
)

func main() {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "members":
			fail(serveMembers(os.Args[2:]))
		case "etcd":
			fail(serveEtcd(os.Args[2:]))
		}
	}
	program := flag.String("coredns", "coredns", "the program")
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
	var ran, failed counter
	for i, faults := range lanes(*gone) {
		wg.Go(func() {
			var some []fault
			for _, f := range faults {
				if which.MatchString(f.name) {
					some = append(some, f)
				}
			}
			if len(some) == 0 {
				return
			}
			l, err := build(i, *program)
			defer l.end()
			if err != nil {
				fmt.Fprintf(os.Stderr, "Nothing to break: %v\n", err)
				failed.add()
				return
			}
			for _, f := range some {
				ran.add()
				if !l.suffer(f) {
					failed.add()
					if *keep {
						l.say()
					}
					return // what comes next would begin with what is left of this one
				}
			}
		})
	}
	wg.Wait()
	if n := failed.value(); n > 0 || ran.value() == 0 {
		fail(fmt.Errorf("%d of %d faults were not withstood", n, ran.value()))
	}
	fmt.Printf("%d faults, all withstood\n", ran.value())
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, cmp.Or(err, fmt.Errorf("it has ended")))
	os.Exit(1)
}
