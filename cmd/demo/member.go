package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A member is a web server that can be stopped and started again at the same address.
type member struct {
	label string
	ip    string
	port  int

	server *http.Server
	served chan struct{} // closed when server has ended; nil while stopped
}

func (m *member) start() error {
	if m.served != nil {
		return nil
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(m.ip, strconv.Itoa(m.port)))
	if err != nil {
		return err
	}
	m.server = &http.Server{Handler: m.pages(), ReadHeaderTimeout: 2 * time.Second}
	m.served = make(chan struct{})
	go func() {
		defer close(m.served)
		_ = m.server.Serve(ln) // always an error: that of stop
	}()
	return nil
}

// stop resets what is connected and leaves the port closed, as a process does that is killed.
func (m *member) stop() {
	if m.served == nil {
		return
	}
	_ = m.server.Close()
	<-m.served
	m.served = nil
}

func (m *member) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "this is %s, at %s\n", m.label, m.ip)
	})
	return mux
}

// bindable says what to do where only 127.0.0.1 is there, as on macOS.
func bindable(ips []string) error {
	var missing []string
	for _, ip := range ips {
		ln, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
		if err != nil {
			missing = append(missing, "sudo ifconfig lo0 alias "+ip+" up")
			continue
		}
		ln.Close()
	}
	if missing == nil {
		return nil
	}
	return errors.New("the demo needs more loopback addresses than this system has; on macOS this adds them:\n\n    " +
		strings.Join(missing, "\n    "))
}

// freePort returns the first port from low on that is free for each of ips, TCP and UDP. It looks
// below the ports that a system gives to outgoing connections: a stopped member's port would
// sooner or later be given to one, even to a probe of that very member.
func freePort(low int, ips ...string) (int, error) {
	const tries = 1000
	for port := low; port < low+tries; port++ {
		if free(port, ips) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port from %d to %d is free on %v", low, low+tries-1, ips)
}

func free(port int, ips []string) bool {
	for _, ip := range ips {
		address := net.JoinHostPort(ip, strconv.Itoa(port))
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return false
		}
		ln.Close()
		pc, err := net.ListenPacket("udp", address)
		if err != nil {
			return false
		}
		pc.Close()
	}
	return true
}
