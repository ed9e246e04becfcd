// Command soak runs failover for a while as two pods of the standalone folder would run, and breaks what it depends on:
// members are killed and come back, links to them are cut, lose packets or are slow, for one replica or for both, and
// the Corefile changes every minute. A thousand queries a second ask meanwhile.
//
// It fails when an answer is wrong for longer than detection takes, when a query is not answered, or when the server
// grows. Everything is in a sandbox, and ends with it.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"time"

	"github.com/coredns-failover/failover/test/sandbox"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "member" {
		s := &http.Server{Addr: os.Args[2], ReadHeaderTimeout: 5 * time.Second,
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		fmt.Fprintln(os.Stderr, s.ListenAndServe())
		os.Exit(1)
	}
	seconds := flag.Int("seconds", 120, "how long it lasts")
	program := flag.String("coredns", "coredns", "the program")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "what happens is drawn from it")
	flag.Parse()
	code, in, err := sandbox.Enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "The soak cannot run:", err)
	}
	if !in || err != nil {
		os.Exit(code)
	}
	time.AfterFunc(time.Duration(*seconds)*time.Second+2*time.Minute, func() {
		fmt.Fprintln(os.Stderr, "The soak does not end by itself")
		os.Exit(1)
	})
	fmt.Printf("%d seconds, -seed %d\n", *seconds, *seed)
	l, err := build(*program)
	if err == nil {
		err = l.soak(time.Duration(*seconds)*time.Second, rand.New(rand.NewPCG(*seed, 0)))
	}
	if l != nil {
		l.end()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
