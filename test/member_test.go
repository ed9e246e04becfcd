package test

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// host is a member of a pool: an HTTP server, and with it a TCP one, on a loopback address. It answers
// every request with 200 until it is told otherwise.
type host struct {
	t      testing.TB
	addr   string // with its port, which it keeps
	status atomic.Int64
	asked  atomic.Int64 // requests so far
	l      net.Listener
	server *http.Server // nil while stopped
	closed int          // the socket that keeps the port while stopped
}

// silent as a status stands for no answer at all.
const silent = 0

// member starts a host on an address, with a port or without, which ends with the test.
func member(t testing.TB, addr string) *host {
	t.Helper()
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = net.JoinHostPort(addr, "0")
	}
	h := &host{t: t, addr: addr}
	h.status.Store(http.StatusOK)
	h.start()
	t.Cleanup(func() {
		h.stop()
		syscall.Close(h.closed)
	})
	return h
}

// members starts one host on each address.
func members(t testing.TB, addrs ...string) []*host {
	t.Helper()
	hosts := make([]*host, 0, len(addrs))
	for _, addr := range addrs {
		hosts = append(hosts, member(t, addr))
	}
	return hosts
}

// String is the host as a Corefile has it: address and port.
func (h *host) String() string { return h.addr }

// start makes the host listen, on the port that it had before.
func (h *host) start() {
	h.t.Helper()
	if h.closed != 0 {
		syscall.Close(h.closed)
		h.closed = 0
	}
	var err error
	if !within(5*time.Second, func() bool { h.l, err = net.Listen("tcp", h.addr); return err == nil }) {
		h.t.Fatalf("The member cannot listen: %v", err)
	}
	h.addr = h.l.Addr().String()
	h.server = &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	go h.server.Serve(h.l)
}

// stop has the host refuse all connections, and ends those that there are.
func (h *host) stop() {
	if h.server == nil {
		return
	}
	h.l.Close() // which the server may not know yet
	h.server.Close()
	h.server = nil
	if err := h.keepPort(); err != nil {
		h.t.Errorf("The member cannot keep its port: %v", err)
	}
}

// keepPort holds the port with a socket that is bound and does not listen, lest somebody else gets it
// and the member seems to be up.
func (h *host) keepPort() error {
	at, err := netip.ParseAddrPort(h.addr)
	if err != nil {
		return err
	}
	family, sockaddr := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()})
	if at.Addr().Is4() {
		family, sockaddr = syscall.AF_INET, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	if h.closed, err = syscall.Socket(family, syscall.SOCK_STREAM, 0); err != nil {
		return err
	}
	syscall.CloseOnExec(h.closed)
	if err = syscall.SetsockoptInt(h.closed, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return err
	}
	return syscall.Bind(h.closed, sockaddr)
}

// answer has the host answer with an HTTP status, or with nothing at all when that is silent.
func (h *host) answer(status int) { h.status.Store(int64(status)) }

// ServeHTTP implements http.Handler.
func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.asked.Add(1)
	status := int(h.status.Load())
	if status == silent {
		<-r.Context().Done() // until the client gives up
		return
	}
	w.WriteHeader(status)
}
