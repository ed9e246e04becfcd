// Command failoverctl shows what a CoreDNS with failover answers and why, decides about its members, and checks a
// Corefile before it is used.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coredns-failover/failover/internal/ctl"
	"github.com/coredns-failover/failover/internal/directives"

	_ "github.com/coredns/coredns/core/plugin" // Plug in CoreDNS: check reads what it reads.

	"golang.org/x/term"
)

func main() {
	if err := directives.Insert(); err != nil {
		fmt.Fprintln(os.Stderr, "failoverctl:", err)
		os.Exit(2)
	}
	log.SetFlags(0) // plugins have something to say about a Corefile, not when
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := ctl.Main(ctx, os.Args[1:], ctl.World{
		In:       os.Stdin,
		Out:      os.Stdout,
		Err:      os.Stderr,
		Getenv:   os.Getenv,
		Zone:     time.Local,
		Terminal: isTerminal(os.Stdout),
		Person:   isTerminal(os.Stdout) && isTerminal(os.Stdin),
		Rows: func() int {
			_, rows, err := term.GetSize(int(os.Stdout.Fd()))
			if err != nil {
				return 24
			}
			return rows
		},
	})
	stop()
	os.Exit(status)
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
