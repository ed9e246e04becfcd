package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	golog "log"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Listen is where a server is to be had, and what is allowed there.
type Listen struct {
	Address   string      // HOST:PORT, or unix:// and the path of a socket
	Token     string      // the file with the token that changes take; "": none are allowed, but on a socket
	Cert, Key string      // files; "": without TLS
	Mode      fs.FileMode // of the socket
}

// IsSocket says whether it is a unix socket.
func (l *Listen) IsSocket() bool { return strings.HasPrefix(l.Address, "unix://") }

func (l *Listen) path() string { return strings.TrimPrefix(l.Address, "unix://") }

func (l *Listen) changes() string {
	switch {
	case l.IsSocket():
		return "socket"
	case l.Token != "":
		return "token"
	}
	return "none"
}

// Check says what is wrong with the files.
func (l *Listen) Check() error {
	if l.IsSocket() {
		if known, err := os.Lstat(l.path()); err == nil && known.Mode().Type() != fs.ModeSocket {
			return noSocket(l.path())
		}
	}
	return l.checkFiles()
}

// checkFiles checks the token and the certificate, which are read anew for each change and each connection.
func (l *Listen) checkFiles() error {
	if l.Token != "" {
		if _, err := readToken(l.Token); err != nil {
			return err
		}
	}
	if l.Cert != "" {
		if _, err := tls.LoadX509KeyPair(l.Cert, l.Key); err != nil {
			return err
		}
	}
	return nil
}

// Listeners are the addresses that a Server is to be had at. All methods may be called at once.
type Listeners struct {
	Server *Server

	mu   sync.Mutex
	open map[string]*listening // by the address

	// Failures reads a copy: a listener that closes waits for its requests, and a request may ask for the failures.
	known atomic.Pointer[knownListeners]
}

// knownListeners is a copy of the open listeners. It is never written to.
type knownListeners struct {
	open   []*listening
	failed []string // what the last Settle could not do
}

// maxConnections is how many clients a listener has at once, see crowd.
const maxConnections = 256

// listening is a listener and what serves it.
type listening struct {
	options atomic.Pointer[Listen] // what holds now
	net.Listener
	server  *http.Server
	file    fs.FileInfo   // the socket's; nil: it is none
	closing chan struct{} // closed when streams have to end
	done    chan struct{} // closed when it does not serve any more
}

// listenKey finds the listening of a request in its context.
type listenKey struct{}

// at is a request's listener with the options of the moment.
type at struct {
	*Listen
	closing <-chan struct{}
}

func listenOf(r *http.Request) at {
	l := r.Context().Value(listenKey{}).(*listening)
	return at{l.options.Load(), l.closing}
}

// Open begins to listen at an address, unless it is open already: then it stays as it is until Settle.
func (ls *Listeners) Open(l Listen) error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.open[l.Address] != nil {
		return nil
	}
	n, err := ls.listen(l)
	if err != nil {
		return err
	}
	if ls.open == nil {
		ls.open = make(map[string]*listening)
	}
	ls.open[l.Address] = n
	ls.publish(nil)
	return nil
}

// Settle closes what is open beside these, and has their options hold. The error is that of a socket that has not got
// its new mode.
func (ls *Listeners) Settle(all []Listen) (err error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var failed []string
	var over []*listening
	for address, n := range ls.open {
		i := slices.IndexFunc(all, func(l Listen) bool { return l.Address == address })
		if i < 0 {
			delete(ls.open, address)
			over = append(over, n)
			continue
		}
		l := all[i]
		if l.IsSocket() && n.options.Load().Mode != l.Mode && n.isThere() {
			if e := os.Chmod(l.path(), l.Mode); e != nil {
				err = errors.Join(err, e)
				failed = append(failed, fmt.Sprintf("status %s: %v", l.Address, e))
				l.Mode = n.options.Load().Mode // so that it is tried again
			}
		}
		n.options.Store(&l)
	}
	ls.publish(failed)
	for _, n := range over {
		n.close()
	}
	return err
}

// Failures are the listeners that work in part only, such as one whose token file cannot be read, each as one text.
func (ls *Listeners) Failures() []string {
	known := ls.known.Load()
	if known == nil {
		return nil
	}
	failed := slices.Clone(known.failed)
	for _, n := range known.open {
		if l := n.options.Load(); l.checkFiles() != nil {
			failed = append(failed, fmt.Sprintf("status %s: %v", l.Address, l.checkFiles()))
		}
	}
	slices.Sort(failed)
	return failed
}

// publish makes the listeners known to Failures. The caller holds mu.
func (ls *Listeners) publish(failed []string) {
	ls.known.Store(&knownListeners{slices.Collect(maps.Values(ls.open)), failed})
}

// Opened are the addresses that are listened at.
func (ls *Listeners) Opened() []string {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var all []string
	for _, n := range ls.open {
		if l := n.options.Load(); l.IsSocket() { // its own address is that of where it was made
			all = append(all, l.Address)
		} else {
			all = append(all, n.Addr().String())
		}
	}
	slices.Sort(all)
	return all
}

// listen begins to serve one address.
func (ls *Listeners) listen(l Listen) (*listening, error) {
	n := &listening{closing: make(chan struct{}), done: make(chan struct{})}
	n.options.Store(&l)
	var err error
	if l.IsSocket() {
		n.Listener, n.file, err = listenSocket(l.path(), l.Mode)
	} else {
		n.Listener, err = net.Listen("tcp", l.Address)
	}
	if err != nil {
		return nil, err
	}
	n.serve(ls.Server)
	return n, nil
}

// serve begins to serve, in a goroutine that ends with the listener.
func (n *listening) serve(s *Server) {
	clients := &crowd{Listener: secured{n.Listener, n}, waiting: make(map[net.Conn]time.Time)}
	n.server = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: patience,
		ReadTimeout:       2 * patience,
		WriteTimeout:      6 * patience, // a document of many pools may be large; streams set their own
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return context.WithValue(context.Background(), listenKey{}, n) },
		ConnState:         clients.note,
		ErrorLog:          golog.New(discard{}, "", 0), // what clients do wrong is no news
	}
	go func() {
		defer close(n.done)
		n.server.Serve(clients)
	}()
}

// crowd is a listener with maxConnections clients at most, so that none of them keeps others out by doing nothing. A
// further one takes the place of the one that has not asked for anything for longest. Where all are being answered, it
// is turned away.
type crowd struct {
	net.Listener

	mu      sync.Mutex
	waiting map[net.Conn]time.Time // all there are: since when they could ask; zero: they are being answered
}

// Accept returns the next client that there is room for.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		next, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c.admit(next) {
			return next, nil
		}
		hangUp(next)
	}
}

// admit takes in a client, if there is room or can be.
func (c *crowd) admit(next net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) >= maxConnections {
		var idlest net.Conn
		for client, since := range c.waiting {
			if !since.IsZero() && (idlest == nil || since.Before(c.waiting[idlest])) {
				idlest = client
			}
		}
		if idlest == nil {
			return false
		}
		delete(c.waiting, idlest)
		hangUp(idlest)
	}
	c.waiting[next] = time.Now()
	return true
}

// note follows what clients do. It is for http.Server to call.
func (c *crowd) note(client net.Conn, now http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.waiting[client]; !ok {
		return // it has been hung up on
	}
	switch now {
	case http.StateActive:
		c.waiting[client] = time.Time{}
	case http.StateIdle:
		c.waiting[client] = time.Now()
	case http.StateClosed, http.StateHijacked:
		delete(c.waiting, client)
	}
}

// hangUp closes a connection without a last word, which TLS would wait for.
func hangUp(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	c.Close()
}

// discard takes what is logged to nowhere.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// secured speaks TLS where the options of the moment say so. The certificate is read for each connection, so that a new
// one holds at once.
type secured struct {
	net.Listener
	of *listening
}

func (s secured) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil || s.of.options.Load().Cert == "" {
		return c, err
	}
	return tls.Server(c, &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			l := s.of.options.Load()
			pair, err := tls.LoadX509KeyPair(l.Cert, l.Key)
			return &pair, err
		},
	}), nil
}

// close ends a listener and waits for what it serves, but not for longer than patience.
func (n *listening) close() {
	close(n.closing)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.server.Shutdown(ctx); err != nil {
		n.server.Close()
	}
	<-n.done
	if n.isThere() {
		os.Remove(n.options.Load().path())
	}
}

// isThere says whether a socket is still where it was made, and not somebody else's in its place.
func (n *listening) isThere() bool {
	if n.file == nil {
		return false
	}
	now, err := os.Lstat(n.options.Load().path())
	return err == nil && os.SameFile(now, n.file)
}

// noSocket is the error of a path that has something else.
func noSocket(path string) error { return fmt.Errorf("%s is there and is no socket", path) }

// listenSocket listens at a unix socket that has its mode from the first moment: it is made beside its place, and then
// put there. One that nobody listens at is replaced.
func listenSocket(path string, mode fs.FileMode) (net.Listener, fs.FileInfo, error) {
	if known, err := os.Lstat(path); err == nil {
		if known.Mode().Type() != fs.ModeSocket {
			return nil, nil, noSocket(path)
		}
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) { // which it is where nobody listens, and not where we may not ask
			return nil, nil, cmp.Or(err, fmt.Errorf("%s is in use by another process", path))
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".failover-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "s")
	l, err := net.Listen("unix", made)
	if err != nil {
		return nil, nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(made, mode), os.Rename(made, path)); err != nil {
		l.Close()
		return nil, nil, err
	}
	file, err := os.Lstat(path)
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	return l, file, nil
}
