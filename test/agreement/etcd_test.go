// Package agreement tests what several sites tell each other over a real etcd: its members run in this process, on
// loopback. All of it is waiting for one another, so nothing here can do without a clock; what has to happen is waited
// for, what must not happen is watched.
package agreement

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/quorum"
	"github.com/coredns-failover/failover/plugin/share"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// member is one etcd.
type member struct {
	t      testing.TB
	config *embed.Config
	etcd   *embed.Etcd // nil: it is stopped
}

// port is the last one that freePort has given. They are below those that connections get, one of which would have the
// port of a member that is stopped.
var port atomic.Uint32

func init() { port.Store(20_000 + rand.Uint32N(10_000)) }

// freePort is the URL of a port that nobody has.
func freePort(t testing.TB, scheme string) url.URL {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port.Add(1)))
		if err == nil {
			defer l.Close()
			return url.URL{Scheme: scheme, Host: l.Addr().String()}
		}
	}
	t.Fatal("none of 100 ports is free")
	return url.URL{}
}

// cluster starts so many members.
func cluster(t testing.TB, n int, change ...func(*embed.Config)) []*member {
	t.Helper()
	members := make([]*member, n)
	initial := make([]string, n)
	for i := range members {
		c := embed.NewConfig()
		c.Name, c.Dir = fmt.Sprint("etcd", i), t.TempDir()
		peer, client := freePort(t, "http"), freePort(t, "http")
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
		c.UnsafeNoFsync = true
		c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		for _, f := range change {
			f(c)
		}
		members[i] = &member{t: t, config: c}
		initial[i] = c.Name + "=" + peer.String()
	}
	var wg sync.WaitGroup
	for _, m := range members {
		m.config.InitialCluster = strings.Join(initial, ",")
		wg.Go(m.start)
	}
	wg.Wait()
	for _, m := range members {
		if m.etcd == nil {
			t.FailNow()
		}
		t.Cleanup(m.stop)
	}
	return members
}

func (m *member) start() {
	e, err := embed.StartEtcd(m.config)
	if err != nil {
		m.t.Error(err)
		return
	}
	select {
	case <-e.Server.ReadyNotify():
		m.etcd = e
	case <-time.After(20 * time.Second):
		e.Close()
		m.t.Error("etcd is not ready after 20 s")
	}
}

func (m *member) stop() {
	if m.etcd != nil {
		m.etcd.Server.HardStop()
		m.etcd.Close()
		m.etcd = nil
	}
}

func (m *member) endpoint() string { return m.config.ListenClientUrls[0].String() }

func endpoints(members []*member) []string {
	var all []string
	for _, m := range members {
		all = append(all, m.endpoint())
	}
	return all
}

// admin is a client that may do everything.
func admin(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// site is a process at a site.
type site struct {
	*share.Share
	t testing.TB

	mu        sync.Mutex
	voted     int
	overrides []override.Override
	decided   int
	letBack   []string
	log       []string
	hears     func() // is called for each Voted
}

// open starts one. Its configuration is checked, as everybody has to.
func open(t testing.TB, c share.Config) *site {
	t.Helper()
	return follow(t, c, share.Past{})
}

// follow starts one after what was before it.
func follow(t testing.TB, c share.Config, past share.Past) *site {
	t.Helper()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, hears: func() {}}
	s.mu.Lock() // until there is a Share
	s.Share = share.Open(c, past, s, s)
	s.mu.Unlock()
	t.Cleanup(func() {
		s.Close()
		if t.Failed() {
			s.mu.Lock()
			t.Logf("site %s: %+v, %+v\n%s", c.Site, s.Sites(), s.Stats(), strings.Join(s.log, "\n"))
			s.mu.Unlock()
		}
	})
	return s
}

// sites starts some, and waits until each counts the others.
func sites(t testing.TB, endpoints []string, names ...string) []*site {
	t.Helper()
	all := make([]*site, len(names))
	for i, name := range names {
		all[i] = open(t, share.Config{Endpoints: endpoints, Site: name})
	}
	for _, s := range all {
		eventually(t, 10*time.Second, "all sites count", func() bool { return s.fresh() == len(names) })
	}
	return all
}

func (s *site) Voted([]quorum.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.voted++
	s.hears()
}

func (s *site) Decided(all func() []override.Override) {
	is := all()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decided++
	s.overrides = is
}

func (s *site) LetBack(pool, member string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letBack = append(s.letBack, pool+" "+member)
}

func (s *site) Infof(format string, v ...any)    { s.logs("INFO ", format, v) }
func (s *site) Warningf(format string, v ...any) { s.logs("WARNING ", format, v) }

func (s *site) logs(level, format string, v []any) {
	go func() { // the lock may be ours
		s.mu.Lock()
		defer s.mu.Unlock()
		s.log = append(s.log, time.Now().Format("05.000 ")+level+fmt.Sprintf(format, v...))
	}()
}

// logged says whether a line with these words was logged.
func (s *site) logged(words string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.log, func(line string) bool { return strings.Contains(line, words) })
}

// decisions are the overrides in words.
func (s *site) decisions() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var words []string
	for _, o := range s.overrides {
		words = append(words, fmt.Sprintf("%s %s", o.Action, o.Target))
	}
	return strings.Join(words, ", ")
}

// fresh is how many sites count, ours among them.
func (s *site) fresh() int {
	n := 0
	for _, is := range s.Sites() {
		if is.Fresh {
			n++
		}
	}
	return n
}

// words are the votes in words: "fra:up nrt:down".
func (s *site) words(k quorum.Key) string {
	var words []string
	for _, v := range s.Votes(k) {
		words = append(words, v.Voter+":"+v.Status.String())
	}
	return strings.Join(words, " ")
}

func key(n int) quorum.Key {
	a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	return quorum.Key{Question: "http://www.example.org/health", Target: netip.AddrPortFrom(a, 80)}
}

var (
	up   = quorum.Vote{Status: health.Up}
	down = quorum.Vote{Status: health.Down, Why: "3 failures: connection refused"}
)

// eventually waits for something to be so.
func eventually(t testing.TB, within time.Duration, what string, is func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		if time.Since(began) > within {
			t.Fatalf("not after %s: %s", within, what)
		}
		<-tick.C
	}
	return time.Since(began)
}

// always has something watched until the function that it returns is called, which says how often it was not so.
func always(is func() bool) (stop func() int) {
	done, not := make(chan struct{}), 0
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			if !is() {
				not++
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return func() int {
		close(done)
		wg.Wait()
		return not
	}
}

// proxy is a way to etcd that can be cut, or swallow all that is sent.
type proxy struct {
	listener net.Listener
	to       string
	cut      atomic.Bool
	swallow  atomic.Bool

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

func through(t testing.TB, endpoint string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: u.Host, conns: make(map[net.Conn]struct{})}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		l.Close()
		p.sever()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) endpoint() string { return "http://" + p.listener.Addr().String() }

func (p *proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.cut.Load() {
			in.Close()
			continue
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.conns[in], p.conns[out] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() { p.pump(in, out) })
		p.wg.Go(func() { p.pump(out, in) })
	}
}

func (p *proxy) pump(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if p.swallow.Load() {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// sever ends all connections.
func (p *proxy) sever() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

// copyDir copies a folder, as somebody does who has nothing better for a backup.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// write makes a file.
func write(t testing.TB, name, content string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.WriteString(f, content); err != nil {
		t.Fatal(err)
	}
	return name
}

// must is for what has to work.
func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// brief is a context for a call.
func brief(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}
