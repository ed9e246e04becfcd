package api

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/override"
)

// pipes is a listener without a network, so that a bubble has all there is.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// stand is a server at a listener of pipes.
type stand struct {
	*testing.T
	*fake
	*Journal
	*listening
	server *Server
	pipes  *pipes
}

// newStand returns one that begins to serve. It has to be closed before the bubble ends: then whatever it has begun has ended,
// or the bubble says so.
func newStand(t *testing.T, pools ...string) *stand {
	s := &stand{T: t, fake: newFake(pools...), Journal: kept(0), pipes: newPipes()}
	s.server = NewServer(s.fake, s.Journal)
	s.listening = &listening{Listener: s.pipes, closing: make(chan struct{}), done: make(chan struct{})}
	s.options.Store(&Listen{Address: "unix:///run/failover.sock"})
	s.serve(s.server)
	return s
}

// dial is a connection that the server has taken.
func (s *stand) dial() net.Conn {
	client, server := net.Pipe()
	s.pipes.conns <- server
	return client
}

// follower is a client of a stream.
type follower struct {
	*testing.T
	net.Conn
	*http.Response
	mu  sync.Mutex
	got bytes.Buffer // since it was last looked at
}

// ask sends a request for a stream over a connection of its own, and reads the head of the answer.
func (s *stand) ask(query string, headers ...string) *follower {
	s.Helper()
	f := &follower{T: s.T, Conn: s.dial()}
	var head strings.Builder
	for h := range slices.Chunk(headers, 2) {
		fmt.Fprintf(&head, "%s: %s\r\n", h[0], h[1])
	}
	fmt.Fprintf(f, "GET /api/v1/events%s HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n%s\r\n", query, head.String())
	var err error
	if f.Response, err = http.ReadResponse(bufio.NewReader(f.Conn), nil); err != nil {
		s.Fatal(err)
	}
	return f
}

// follow is ask, and reads what comes.
func (s *stand) follow(query string, headers ...string) *follower {
	s.Helper()
	f := s.ask(query, headers...)
	if f.StatusCode != 200 || f.Header.Get("Content-Type") != "text/event-stream" {
		s.Fatalf("%s %s, want a stream", f.Status, f.Header.Get("Content-Type"))
	}
	go io.Copy(f, f.Body)
	return f
}

// Write takes what has come. It is for io.Copy only; the connection has its own.
func (f *follower) Write(p []byte) (int, error) {
	if f.Response == nil {
		return f.Conn.Write(p)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.got.Write(p)
}

// news is what has come since it was last called, in short: "answer 7, pool a.example.org.@...".
func (f *follower) news() string {
	f.Helper()
	synctest.Wait()
	f.mu.Lock()
	text := f.got.String()
	f.got.Reset()
	f.mu.Unlock()
	if text != "" && !strings.HasSuffix(text, "\n\n") {
		f.Errorf("the stream has %q at its end, want a whole event", text[max(0, len(text)-100):])
	}
	var all []string
	for block := range strings.SplitSeq(strings.TrimSuffix(text, "\n\n"), "\n\n") {
		var id, kind, data string
		for line := range strings.SplitSeq(block, "\n") {
			switch field, value, _ := strings.Cut(line, ": "); field {
			case "id":
				_, id, _ = strings.Cut(value, "-")
				id = " " + id
			case "event":
				kind = value
			case "data":
				data = value
			case "":
				kind = line
			default:
				f.Errorf("the stream has the line %q", line)
			}
		}
		if kind == "pool" {
			_, name, _ := strings.Cut(data, `"name":"`)
			name, _, _ = strings.Cut(name, ".")
			kind += " " + name
		}
		all = append(all, kind+id)
	}
	return strings.Join(all, ", ")
}

func (f *follower) want(what string) {
	f.Helper()
	if got := f.news(); got != what {
		f.Errorf("%q has come, want %q", got, what)
	}
}

func TestStreamResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, "a.example.org.", "b.example.org.")
		more(s.Journal, 4)
		id := s.process + "-1"
		for _, test := range []struct {
			query   string
			headers []string
			want    string
		}{
			{"", nil, ""},
			{"", []string{"Last-Event-ID", id}, "answer 2, answer 3"},
			{"?last=" + id, nil, "answer 2, answer 3"},
			{"?last=" + id, []string{"Last-Event-ID", s.process + "-2"}, "answer 3"}, // what a browser says when it comes again
			{"", []string{"Last-Event-ID", s.process + "-3"}, ""},
			{"", []string{"Last-Event-ID", "another-1"}, "reset"},
			{"?last=%0d%0aX:%20y", nil, "reset"},
			{"?pool=B.example.org&last=" + id, nil, ""},
			{"?pool=A.example.org&last=" + id, nil, "answer 2, answer 3"},
		} {
			f := s.follow(test.query, test.headers...)
			f.want(test.want)
			f.Conn.Close()
		}
		more(s.Journal, maxEvents)
		f := s.follow("", "Last-Event-ID", id)
		f.want("reset")
		more(s.Journal, 1)
		f.want(fmt.Sprint("answer ", maxEvents+4))
		f.Conn.Close()
		s.close()
	})
}

// TestStreamPools has a pool that changes all the time, and others that do now and then.
func TestStreamPools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, "a.example.org.", "b.example.org.")
		all, one, none := s.follow("?pools=true"), s.follow("?pools=true&pool=b.example.org"), s.follow("")
		touch := func(i int) { s.Touch(s.fake.pools[i].ID) }
		s.Touch("nobody")
		touch(1)
		touch(0)
		all.want("pool a, pool b")
		one.want("pool b")
		for range 100 { // in one second
			touch(0)
			time.Sleep(10 * time.Millisecond)
		}
		if n := strings.Count(all.news(), "pool a"); n != 4 {
			t.Errorf("the pool came %d times in a second, want 4", n)
		}
		one.want("")
		time.Sleep(time.Second)
		all.want("") // nothing is left over

		touch(1)
		all.want("pool b") // at once, as nothing came before
		touch(0)
		more(s.Journal, 1)
		all.want("answer 0") // events do not wait
		time.Sleep(poolPace)
		all.want("pool a")

		time.Sleep(poolPace)
		s.Reload()
		all.want("reload")
		time.Sleep(poolPace)
		s.Touch("nobody")
		synctest.Wait() // what comes now is for later
		for i := range maxTouched + 1 {
			s.Touch(fmt.Sprint(i))
		}
		touch(1)
		all.want("")
		time.Sleep(poolPace)
		all.want("reload")
		one.want("pool b, reload, reload")
		none.want("answer 0")
		s.close()
	})
}

// TestStreamWarnings has the warnings of the server change, and tells those that follow the pools.
func TestStreamWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, "a.example.org.")
		s.warn(Warning{Kind: "state", Text: "it is there when the stream begins", Since: noon})
		all, none := s.follow("?pools=true"), s.follow("")
		all.want("")
		for _, warned := range [][]Warning{{{Kind: "share", Text: "etcd is lost", Since: noon}}, nil} {
			s.warn(warned...)
			time.Sleep(heartbeat + time.Second)
			all.want("warnings")
			time.Sleep(heartbeat)
			all.want(": still here")
		}
		none.news()
		s.close()
	})
}

// TestStreamLasts has a stream on which nothing happens for longer than any request may take.
func TestStreamLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		f := s.follow("")
		time.Sleep(time.Hour + time.Second)
		if n := strings.Count(f.news(), ": still here"); n != 240 {
			t.Errorf("%d signs of life in an hour, want 240", n)
		}
		more(s.Journal, 1)
		f.want("answer 0")
		s.close()
	})
}

// TestStreamNotRead has a client that reads nothing: neither the journal nor another client waits for it, and it is dropped.
func TestStreamNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		deaf, other := s.ask("?pools=true"), s.follow("")
		synctest.Wait()
		began := time.Now()
		more(s.Journal, 1000)
		if n := strings.Count(other.news(), "answer"); n != 1000 || time.Since(began) > 0 {
			t.Errorf("%d events after %s, want 1000 at once", n, time.Since(began))
		}
		if n := s.server.streams.Load(); n != 2 {
			t.Errorf("%d streams, want 2", n)
		}
		time.Sleep(patience + time.Second)
		synctest.Wait()
		if n := s.server.streams.Load(); n != 1 || len(s.readers) != 1 {
			t.Errorf("%d streams and %d readers after %s, want 1", n, len(s.readers), time.Since(began))
		}
		deaf.Conn.Close()
		s.close()
	})
}

// TestStreamSlow has a client that reads slowly, and gets everything.
func TestStreamSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		more(s.Journal, 500)
		f := s.ask("", "Last-Event-ID", s.process+"-0")
		began, n, part := time.Now(), 0, make([]byte, 4000)
		for n < 499 {
			got, err := f.Body.Read(part)
			if err != nil {
				t.Fatalf("%v after %s and %d events", err, time.Since(began), n)
			}
			n += bytes.Count(part[:got], []byte("\n\n"))
			time.Sleep(time.Second)
		}
		if time.Since(began) < 2*patience {
			t.Errorf("it took %s, want a client that is slower", time.Since(began))
		}
		f.Conn.Close()
		s.close()
	})
}

// TestStreamsAtOnce has as many streams as may be, and one more.
func TestStreamsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		var all []*follower
		for range maxStreams {
			all = append(all, s.follow(""))
		}
		f := s.ask("")
		if f.StatusCode != http.StatusTooManyRequests || f.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s, want the problem 429", f.Status, f.Header.Get("Content-Type"))
		}
		f.Conn.Close()
		all[0].Conn.Close()
		synctest.Wait()
		f = s.follow("")
		more(s.Journal, 1)
		f.want("answer 0")
		all[maxStreams-1].want("answer 0")
		s.close()
		if n := s.server.streams.Load(); n != 0 || len(s.readers) != 0 {
			t.Errorf("%d streams and %d readers after the end, want none", n, len(s.readers))
		}
	})
}

// TestStreamHead has only the head of a stream, and no stream that holds a place.
func TestStreamHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		c := s.dial()
		fmt.Fprint(c, "HEAD /api/v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "HEAD"})
		if err != nil || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%v (%v), want the head of a stream", resp, err)
		}
		synctest.Wait()
		if n := s.server.streams.Load(); n != 0 {
			t.Errorf("%d streams, want none", n)
		}
		c.Close()
		s.close()
	})
}

// TestClose has everything end that clients do not: streams at once, a client that says nothing, or half of a request, after
// patience.
func TestClose(t *testing.T) {
	for _, test := range []struct {
		name, said string
		within     time.Duration
	}{
		{"a stream", "GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n", time.Second},
		{"nothing", "", patience},
		{"half of a request", "GET /api/v1/pools HTTP/1.1\r\nHo", patience},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStand(t)
			c := s.dial()
			fmt.Fprint(c, test.said)
			go io.Copy(io.Discard, c)
			synctest.Wait()
			began := time.Now()
			s.close()
			if took := time.Since(began); took > test.within {
				t.Errorf("%s: it took %s, want %s at most", test.name, took, test.within)
			}
			synctest.Wait()
			c.Close()
		})
	}
}

// TestIdle has clients leave room for others that take it and say nothing.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		silent, idle := s.dial(), s.dial()
		go io.Copy(io.Discard, silent)
		fmt.Fprint(idle, "GET /api/v1/overrides HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(idle), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v (%v)", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
		for _, c := range []net.Conn{silent, idle} {
			began := time.Now()
			if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(began) > time.Minute {
				t.Errorf("it is there after %s (%v)", time.Since(began), err)
			}
		}
		s.close()
	})
}

// The events of one pool are its own, and the overrides that concern its members.
func TestEventsOfPool(t *testing.T) {
	f := newFront(t, Listen{Address: "127.0.0.1:9054"})
	f.pools[0].Names = []string{f.pools[0].Name, "alias.example.org."}
	f.pools[0].Tiers = []Tier{{Members: []Member{{Address: "192.0.2.1:443", Label: "FRA"}, {Address: "[2001:db8::1]:443"}}}}
	f.pools[1].Tiers = nil
	f.Add(Event{Kind: "transition", Pool: "a.example.org.", Member: "one"})
	f.Add(Event{Kind: "transition", Pool: "b.example.org.", Member: "two"})
	f.Add(Event{Kind: "transition", Pool: "gone.example.org.", Member: "three"})
	for member, o := range map[string]override.Target{
		"four": {Member: "192.0.2.1"}, "five": {Member: "192.0.2.1:443"}, "six": {Label: "fra"}, "seven": {Member: "2001:db8::1"},
		"eight": {Member: "192.0.2.10"}, "nine": {Label: "nyc"}, "ten": {Member: "192.0.2.1:44"},
	} {
		f.Add(Event{Kind: "override", Member: member, Override: &override.Override{Target: o}})
	}
	for name, want := range map[string]string{
		"a.example.org": "five four one seven six", "ALIAS.example.org.": "five four one seven six", "gone.example.org": "three", "b.example.org": "two",
	} {
		var got []string
		for _, e := range read[struct {
			Since  time.Time
			Events []Event
		}](t, f.do("GET", "/api/v1/events?pool="+name, "")).Events {
			got = append(got, e.Member)
		}
		slices.Sort(got)
		if text := strings.Join(got, " "); text != want {
			t.Errorf("The events of %s are %q, want %q", name, text, want)
		}
	}
	const want = `no pool has the name "nosuch.", and the journal has no event of such a pool`
	if p := f.problemOf(f.do("GET", "/api/v1/events?pool=nosuch", ""), 404); p.Detail != want {
		t.Errorf("%q, want %q", p.Detail, want)
	}
	f.problemOf(f.do("GET", "/api/v1/events?pool=nosuch", "", "Accept", "text/event-stream"), 404)
}
