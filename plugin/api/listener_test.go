package api

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newListeners are closed with the test.
func newListeners(t *testing.T) *Listeners {
	ls := &Listeners{Server: NewServer(newFake("a.example.org."), kept(0))}
	t.Cleanup(func() { ls.Settle(nil) })
	return ls
}

// opened is the address of the only listener.
func opened(t *testing.T, ls *Listeners) string {
	t.Helper()
	all := ls.Opened()
	if len(all) != 1 {
		t.Fatalf("open are %q, want one", all)
	}
	return all[0]
}

func open(t *testing.T, ls *Listeners, l Listen) {
	t.Helper()
	if err := ls.Open(l); err != nil {
		t.Fatal(err)
	}
}

// get is the status of an answer, with a connection of its own.
func get(url string, transport *http.Transport) (int, error) {
	transport.DisableKeepAlives = true
	c := http.Client{Transport: transport, Timeout: 5 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// over dials a socket whatever the URL.
func over(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
}

func socketIn(t *testing.T) (path string, l Listen) {
	dir, err := os.MkdirTemp("", "s") //nolint:usetesting // its directories may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "s")
	return path, Listen{Address: "unix://" + path, Mode: 0o600}
}

func modeOf(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

func TestSocket(t *testing.T) {
	path, l := socketIn(t)
	ls := newListeners(t)
	open(t, ls, l)
	if got := modeOf(t, path); got != fs.ModeSocket|0o600 {
		t.Errorf("mode %s, want a socket with 0600", got)
	}
	if code, err := get("http://failover/api/v1/pools", over(path)); code != 200 {
		t.Errorf("%d (%v), want 200", code, err)
	}
	l.Mode = 0o660
	if err := ls.Settle([]Listen{l}); err != nil || modeOf(t, path) != fs.ModeSocket|0o660 {
		t.Errorf("mode %s (%v), want 0660", modeOf(t, path), err)
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("%v, want the socket only", files)
	}
	ls.Settle(nil)
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is there after the end")
	}
}

// TestSocketMode has a socket at its place with no other mode than its own, from the first moment, and whatever the umask.
func TestSocketMode(t *testing.T) {
	path, l := socketIn(t)
	l.Mode = 0o622
	stop, seen := make(chan struct{}), make(chan fs.FileMode)
	go func() {
		defer close(seen)
		last := fs.FileMode(0)
		for {
			if info, err := os.Lstat(path); err == nil && info.Mode() != last {
				last = info.Mode()
				seen <- last
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	for range 50 {
		listener, _, err := listenSocket(path, l.Mode)
		if err != nil {
			t.Fatal(err)
		}
		listener.Close() // it stays where it is, for the next to replace
		select {
		case mode := <-seen:
			if mode != fs.ModeSocket|l.Mode {
				t.Errorf("mode %s, want %s", mode, l.Mode)
			}
		default:
		}
	}
	close(stop)
	for mode := range seen {
		if mode != fs.ModeSocket|l.Mode {
			t.Errorf("mode %s, want %s", mode, l.Mode)
		}
	}
	if got := modeOf(t, path); got != fs.ModeSocket|l.Mode {
		t.Errorf("mode %s, want %s", got, l.Mode)
	}
}

// TestSocketTaken has something else at the place of a socket.
func TestSocketTaken(t *testing.T) {
	for _, test := range []struct {
		name string
		put  func(path string) (end io.Closer, err error)
		want string // in the error; "": it is replaced
	}{
		{"stale", func(path string) (io.Closer, error) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				return nil, err
			}
			l.SetUnlinkOnClose(false)
			return nil, l.Close()
		}, ""},
		{"live", func(path string) (io.Closer, error) { return net.Listen("unix", path) }, "in use by another process"},
		{"file", func(path string) (io.Closer, error) { return nil, os.WriteFile(path, []byte("x"), 0o600) }, "is no socket"},
		{"directory", func(path string) (io.Closer, error) { return nil, os.Mkdir(path, 0o700) }, "is no socket"},
		{"link", func(path string) (io.Closer, error) { return nil, os.Symlink("/dev/null", path) }, "is no socket"},
		{"datagrams", func(path string) (io.Closer, error) {
			return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		}, "wrong type"},
	} {
		path, l := socketIn(t)
		end, err := test.put(path)
		if err != nil {
			t.Fatal(err)
		}
		before := modeOf(t, path)
		ls := newListeners(t)
		switch err := ls.Open(l); {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v, want it replaced", test.name, err)
		case test.want == "":
			if code, err := get("http://x/", over(path)); code != 200 {
				t.Errorf("%s: %d (%v), want 200", test.name, code, err)
			}
		case err == nil || !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		case modeOf(t, path) != before:
			t.Errorf("%s: it is %s, want it as it was", test.name, modeOf(t, path))
		}
		if end != nil {
			end.Close()
		}
		ls.Settle(nil)
	}
	if err := newListeners(t).Open(Listen{Address: "unix:///nonexistent/failover.sock"}); err == nil {
		t.Error("a socket where there is no directory")
	}
}

// TestSocketNotOurs has another socket put at the place while ours is open: it is left alone, as to its mode and at the end.
func TestSocketNotOurs(t *testing.T) {
	path, l := socketIn(t)
	ls := newListeners(t)
	open(t, ls, l)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	mode := modeOf(t, path)
	l.Mode = 0o666
	if err := ls.Settle([]Listen{l}); err != nil || modeOf(t, path) != mode {
		t.Errorf("mode %s (%v), want that of the other's left", modeOf(t, path), err)
	}
	ls.Settle(nil)
	if got := modeOf(t, path); got != mode {
		t.Errorf("mode %s, want the other's there", got)
	}
}

// pair makes a certificate for 127.0.0.1 with a name of its own.
func pair(t *testing.T, cert, key, name string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: text}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}

func TestTLS(t *testing.T) {
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	l := Listen{Address: "127.0.0.1:0", Cert: cert, Key: key}
	if err := l.Check(); err == nil {
		t.Error("Check takes files that are not there")
	}
	first := pair(t, cert, key, "first")
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	ls := newListeners(t)
	open(t, ls, l)
	at := opened(t, ls)
	https := func(pool *x509.CertPool) (int, error) {
		return get("https://"+at+"/api/v1/pools", &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}})
	}
	if code, err := https(first); code != 200 {
		t.Errorf("%d (%v), want 200", code, err)
	}
	if code, err := get("http://"+at+"/api/v1/pools", new(http.Transport)); err == nil && code != 400 {
		t.Errorf("%d without TLS, want none", code)
	}
	if _, err := tls.Dial("tcp", at, &tls.Config{RootCAs: first, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}

	// One that is open goes on, and the next has the new certificate.
	c, err := tls.Dial("tcp", at, &tls.Config{RootCAs: first})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	second := pair(t, cert, key, "second")
	if code, err := https(second); code != 200 {
		t.Errorf("with the new certificate: %d (%v), want 200", code, err)
	}
	if code, err := https(first); err == nil {
		t.Errorf("with the certificate before: %d, want an error", code)
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Error(err)
	}
	if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
		t.Errorf("%.40q (%v), want 200", answer, err)
	}

	// Files that do not work any more let nobody in, and do no harm.
	if err := os.WriteFile(cert, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, err := https(second); err == nil {
		t.Errorf("without a certificate: %d, want an error", code)
	}
	if code, err := https(pair(t, cert, key, "third")); code != 200 {
		t.Errorf("with the third: %d (%v), want 200", code, err)
	}
}

// TestReload goes through what a reload asks of listeners: what both Corefiles name stays open, and its options hold when the
// reload is over; what only the first names ends then.
func TestReload(t *testing.T) {
	words := file(t, "token", token)
	ls := newListeners(t)
	first := Listen{Address: "127.0.0.1:0"}
	path, second := socketIn(t)
	open(t, ls, first)
	at := opened(t, ls)
	put := func() int {
		r, err := http.NewRequest("PUT", "http://"+at+another, strings.NewReader(drain))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Error(err)
			return 0
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	if code := put(); code != 403 {
		t.Errorf("without a token in the Corefile: %d, want 403", code)
	}
	stream := streamAt(t, at)

	// A reload that fails: the options of the first hold, and what only the second has ends.
	changed := first
	changed.Token = words
	open(t, ls, changed)
	open(t, ls, second)
	if code := put(); code != 403 {
		t.Errorf("before the reload is over: %d, want 403", code)
	}
	ls.Settle([]Listen{first})
	if _, err := os.Lstat(path); err == nil || opened(t, ls) != at {
		t.Errorf("%q are open after a reload that has failed, want %s", ls.Opened(), at)
	}

	// One that changes options.
	open(t, ls, changed)
	open(t, ls, second)
	ls.Settle([]Listen{changed, second})
	if code := put(); code != 200 { // over the connection of before
		t.Errorf("with the token: %d, want 200", code)
	}
	if all := ls.Opened(); !slices.Equal(all, []string{at, second.Address}) {
		t.Errorf("%q are open, want two", all)
	}
	ls.Server.journal.Add(Event{Kind: "answer"})
	if line, err := stream.ReadString('\n'); err != nil || !strings.HasPrefix(line, "id: ") {
		t.Errorf("the stream has %q (%v), want an event", line, err)
	}

	// One that drops it.
	ls.Settle([]Listen{second})
	if rest, err := io.ReadAll(stream); err != nil || !strings.HasPrefix(string(rest), "event: answer\n") {
		t.Errorf("the stream has %q (%v), want it ended", rest, err)
	}
	if c, err := net.Dial("tcp", at); err == nil {
		c.Close()
		t.Errorf("%s is open", at)
	}
	ls.Settle(nil)
	if all := ls.Opened(); len(all) != 0 {
		t.Errorf("%q are open, want none", all)
	}
}

// streamAt is what comes of a stream.
func streamAt(t *testing.T, at string) *bufio.Reader {
	t.Helper()
	r, err := http.NewRequest("GET", "http://"+at+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	resp, err := new(http.Transport).RoundTrip(r)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v (%v)", resp, err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return bufio.NewReader(resp.Body)
}

// TestOpenFails has an address that is taken: what is open stays, and nothing is left behind.
func TestOpenFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ls := newListeners(t)
	open(t, ls, Listen{Address: "127.0.0.1:0"})
	at := opened(t, ls)
	if err := ls.Open(Listen{Address: taken.Addr().String()}); err == nil {
		t.Error("an address is opened that is taken")
	}
	if got := opened(t, ls); got != at {
		t.Errorf("%s is open, want %s", got, at)
	}
	if code, err := get("http://"+at+"/", new(http.Transport)); code != 200 {
		t.Errorf("%d (%v), want 200", code, err)
	}
}

// client is one that keeps its connection.
type client struct {
	net.Conn
	from *bufio.Reader
}

func (s *stand) client() *client {
	c := s.dial()
	return &client{c, bufio.NewReader(c)}
}

// another is what a further client gets, which has not to wait.
func (s *stand) another() int {
	s.Helper()
	began := time.Now()
	code := s.client().ask()
	if took := time.Since(began); took > 0 {
		s.Errorf("a further client waits for %s", took)
	}
	return code
}

// ask sends a request, and is the status of its answer; 0: it has been hung up on.
func (c *client) ask() int {
	if err := c.send(); err != nil {
		return 0
	}
	return c.answer()
}

func (c *client) send() error {
	_, err := io.WriteString(c, "GET /api/v1/pools HTTP/1.1\r\nHost: x\r\n\r\n")
	return err
}

func (c *client) answer() int {
	resp, err := http.ReadResponse(c.from, nil)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	synctest.Wait() // the server has noticed that it is answered
	return resp.StatusCode
}

// TestCrowd has all clients there that a listener takes, and one more.
func TestCrowd(t *testing.T) {
	crowd := func(t *testing.T, first func(*client)) (*stand, []*client) {
		s := newStand(t)
		all := make([]*client, maxConnections)
		for i := range all {
			all[i] = s.client()
			first(all[i])
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		return s, all
	}
	synctest.Test(t, func(t *testing.T) {
		s, all := crowd(t, func(c *client) { c.ask() })
		defer s.close()
		all[0].ask() // so that another has been idle for longest
		if code := s.another(); code != 200 {
			t.Errorf("where all others are idle: %d, want 200", code)
		}
		for i, c := range all {
			if code, want := c.ask(), map[bool]int{true: 0, false: 200}[i == 1]; code != want {
				t.Errorf("client %d: %d, want %d", i, code, want)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s, all := crowd(t, func(*client) {})
		defer s.close()
		if code := s.another(); code != 200 {
			t.Errorf("where all others have never said a word: %d, want 200", code)
		}
		if code := all[0].ask(); code != 0 {
			t.Errorf("the first of these: %d, want it gone", code)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s, all := crowd(t, func(c *client) { c.send() })
		defer s.close()
		if code := s.another(); code != 0 {
			t.Errorf("where all others are being answered: %d, want it turned away", code)
		}
		for i, c := range all[:2] {
			if code := c.answer(); code != 200 {
				t.Errorf("client %d, which was being answered: %d, want 200", i, code)
			}
		}
		all[0].Close()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		for i, want := range []int{200, 200} { // in the place that is free, and in that of the one that is idle
			if code := s.another(); code != want {
				t.Errorf("client %d after these: %d, want %d", i, code, want)
			}
		}
		if code := all[1].ask(); code != 0 {
			t.Errorf("the one that was idle: %d, want it gone", code)
		}
	})
}

// A listener of which a file cannot be read any more is a failure, until it can.
func TestFailures(t *testing.T) {
	ls, l := newListeners(t), Listen{Address: "127.0.0.1:0", Token: file(t, "token", token+"\n")}
	open(t, ls, l)
	for _, test := range []struct{ content, want string }{
		{token, ""},
		{"short", "status 127.0.0.1:0: token file " + l.Token + ": the token in its first line has 5 characters, want 16 or more"},
		{"", "status 127.0.0.1:0: token file " + l.Token + ": the token in its first line has 0 characters, want 16 or more"},
		{token, ""},
	} {
		if err := os.WriteFile(l.Token, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(ls.Failures(), "\n"); got != test.want {
			t.Errorf("With the token %q the failures are %q, want %q", test.content, got, test.want)
		}
	}
	if err := os.Remove(l.Token); err != nil {
		t.Fatal(err)
	}
	if got := ls.Failures(); len(got) != 1 || !strings.Contains(got[0], "no such file") {
		t.Errorf("Without the file of the token the failures are %q, want that there is none", got)
	}
	if ls.Settle(nil); len(ls.Failures()) > 0 {
		t.Errorf("Without a listener the failures are %q, want none", ls.Failures())
	}
}
