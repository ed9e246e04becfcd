// Command demo shows a failover on loopback: three web servers, and a CoreDNS with failover that
// answers with those that work. It needs no root and nothing besides Go, sends nothing beyond
// loopback, and ends after twenty seconds or so; its exit status is 1 when an answer was late or
// wrong. With -keep it serves until you have seen enough, and the servers are yours to stop.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	_ "github.com/coredns-failover/failover" // Plug in failover.
	"github.com/coredns-failover/failover/internal/directives"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"   // The Corefile below says bind,
	_ "github.com/coredns/coredns/plugin/errors" // and errors.
)

const (
	name = "www.example.org"

	// Nobody reads along for longer, and nothing is left running by someone who forgot it.
	atMost = time.Hour

	corefile = `example.org:%[1]d {
    bind 127.0.0.1
    errors
    failover www.example.org {
        primary east=127.0.0.1 west=127.0.0.2
        backup spare=127.0.0.3
        probe http://:%[2]d/healthz
        interval 1s
        recheck 200ms
        timeout 500ms
        fall 3
        rise 2
        ttl 1s 5s
    }
}
`
)

// The members of the Corefile, in its order.
var (
	labels = []string{"east", "west", "spare"}
	ips    = []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}
)

func main() {
	flags := flag.NewFlagSet("demo", flag.ExitOnError) // CoreDNS has put its own into flag.CommandLine
	keep := flags.Bool("keep", false, "serve until end of input or Ctrl-C, and stop and start members by hand")
	_ = flags.Parse(os.Args[1:]) // exits on an error

	if err := run(*keep); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run starts everything, lets the story or the person at the keyboard play, and stops everything.
func run(keep bool) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()

	if err := bindable(ips); err != nil {
		return err
	}
	screen := newScreen(os.Stdout)
	d, port, err := newDemo(screen)
	if err != nil {
		return err
	}
	defer d.stopMembers()
	if err := d.act(nil, d.find("all")); err != nil {
		return err
	}

	text := fmt.Sprintf(corefile, port, d.members[0].port)
	screen.indented(text)
	instance, err := startDNS(text, screen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopDNS(instance)) }()

	if keep {
		d.serve(ctx, os.Stdin, port)
		return nil
	}
	return d.tell(ctx, story)
}

func newDemo(screen *screen) (*demo, int, error) {
	web, err := freePort(8080, ips...)
	if err != nil {
		return nil, 0, err
	}
	port, err := freePort(5300, "127.0.0.1")
	if err != nil {
		return nil, 0, err
	}
	d := &demo{screen: screen, server: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	for i, ip := range ips {
		d.members = append(d.members, &member{label: labels[i], ip: ip, port: web})
	}
	return d, port, nil
}

// startDNS is how any program runs CoreDNS inside itself.
func startDNS(text string, screen *screen) (*caddy.Instance, error) {
	if err := directives.Insert(); err != nil {
		return nil, err
	}
	log.SetFlags(0) // the screen has its own clock
	log.SetOutput(screen)
	caddy.Quiet, dnsserver.Quiet = true, true
	return caddy.Start(caddy.CaddyfileInput{
		Filepath:       "Corefile",
		Contents:       []byte(text),
		ServerTypeName: "dns",
	})
}

func stopDNS(instance *caddy.Instance) error {
	err := errors.Join(instance.ShutdownCallbacks()...)
	err = errors.Join(err, instance.Stop())
	instance.Wait()
	return err
}
