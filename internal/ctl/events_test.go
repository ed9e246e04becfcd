package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/override"
)

// happened are events of each kind.
var happened = []api.Event{
	{ID: "p-1", At: noon, Kind: "transition", Pool: "www.example.org.", Member: "fra 192.0.2.10:443", From: "up", To: "down", Why: "3 failures: connection refused", Answer: "198.51.100.10"},
	{ID: "p-2", At: noon.Add(time.Second), Kind: "answer", Pool: "www.example.org.", View: "europe", Answer: "192.0.2.10", Why: "a hold is over"},
	{ID: "p-3", At: noon.Add(time.Minute), Kind: "override", Change: "set", Override: &override.Override{
		Target: override.Target{Label: "fra"}, Action: override.Drain, Author: "alice@ns1", Until: noon.Add(time.Hour), Reason: "move",
	}},
	{ID: "p-4", At: noon.Add(2 * time.Minute), Kind: "override", Change: "cleared", By: "root@ns2", Why: "done", Override: &override.Override{
		Target: override.Target{Label: "fra"}, Action: override.Drain, Author: "alice@ns1", Since: noon.Add(time.Minute), Reason: "move",
	}},
	{ID: "p-5", At: noon.Add(3 * time.Minute), Kind: "override", Change: "expired", Override: &override.Override{
		Target: override.Target{Label: "fra"}, Action: override.Drain, Author: "alice@ns1", Since: noon.Add(time.Minute), Reason: "move",
	}},
}

// ofServer are the events of the server itself.
var ofServer = []api.Event{
	{ID: "p-4", At: noon.Add(2 * time.Minute), Kind: "server", Change: "reloaded"},
	{ID: "p-5", At: noon.Add(3 * time.Minute), Kind: "server", Change: "refused", Why: "Corefile:3 - Error during parsing: Unknown directive 'failovr'"},
}

// eventful has a server tell what happened, and then of each connection to its stream what connection says.
func eventful(f *fake, connection func(n int, last string, send func(format string, args ...any))) {
	n := 0
	f.mux.HandleFunc("GET /api/v1/events", func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Accept"), "text/event-stream") {
			list := happened[:2:2]
			if connection == nil {
				list = append(list, ofServer...)
			}
			answer(w, map[string]any{"events": list, "since": noon.Add(-time.Hour)})
			return
		}
		n++
		w.Header().Set("Content-Type", "text/event-stream")
		connection(n, r.Header.Get("Last-Event-ID"), func(format string, args ...any) {
			fmt.Fprintf(w, format, args...)
			http.NewResponseController(w).Flush()
		})
	})
}

// An override that has ended says who ended it and who had set it.
func TestOverrideEvents(t *testing.T) {
	f := serve(t)
	f.mux.HandleFunc("GET /api/v1/events", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"events": happened[2:]})
	})
	want := `2026-11-24 12:01:00  set label fra: drain by alice@ns1 until 2026-11-24T13:00:00Z: move
2026-11-24 12:02:00  cleared label fra by root@ns2: done; it was drain by alice@ns1: move, set 2026-11-24 12:01:00
2026-11-24 12:03:00  expired label fra; it was drain by alice@ns1: move, set 2026-11-24 12:01:00
`
	if got := run(t, "-server", f.URL, "events"); got.out != want {
		t.Errorf("The events are\n%s, want\n%s", got.out, want)
	}
}

// A name that no pool has is an error.
func TestEventsOfNoPool(t *testing.T) {
	f := serve(t)
	f.mux.HandleFunc("GET /api/v1/events", func(w http.ResponseWriter, _ *http.Request) {
		problemOf(w, api.Problem{Title: "Not Found", Status: 404, Detail: `no pool has the name "nosuch.", and the journal has no event of such a pool`})
	})
	for _, more := range []string{"", "-follow"} {
		got := run(t, append([]string{"-server", f.URL, "events", "nosuch"}, strings.Fields(more)...)...)
		if got.status == good || got.out != "" || !strings.Contains(got.err, `no pool has the name "nosuch."`) {
			t.Errorf("events nosuch %s: status %d, %q, %q", more, got.status, got.out, got.err)
		}
	}
}

func TestEvents(t *testing.T) {
	f := serve(t)
	eventful(f, nil)
	got := run(t, "-server", f.URL, "events", "www.example.org")
	want := `2026-11-24 11:00:00  the journal begins
2026-11-24 12:00:00  www.example.org. fra 192.0.2.10:443: up -> down (3 failures: connection refused); now answering 198.51.100.10
2026-11-24 12:00:01  www.example.org. (view europe) now answering 192.0.2.10 (a hold is over)
2026-11-24 12:02:00  Corefile reloaded
2026-11-24 12:03:00  reload refused: Corefile:3 - Error during parsing: Unknown directive 'failovr'
`
	if got.status != good || got.out != want {
		t.Errorf("The status is %d, and the events are\n%s%s, want\n%s", got.status, got.out, got.err, want)
	}
	var list struct {
		Since  time.Time
		Events []api.Event
	}
	got = run(t, "-server", f.URL, "events", "-o", "json")
	if err := json.Unmarshal([]byte(got.out), &list); err != nil || len(list.Events) != 4 || !list.Since.Equal(noon.Add(-time.Hour)) {
		t.Errorf("As JSON: %v, %s", err, got.out)
	}
	if asked, want := f.asked()[0], "GET /api/v1/events?pool=www.example.org."; asked != want {
		t.Errorf("The server was asked %q, want %q", asked, want)
	}
}

// whole is a writer that cancels when it has so many lines.
type whole struct {
	text   []byte
	lines  int
	cancel context.CancelFunc
}

func (w *whole) Write(p []byte) (int, error) {
	w.text = append(w.text, p...)
	if bytes.Count(w.text, []byte("\n")) >= w.lines {
		w.cancel()
	}
	return len(p), nil
}

// following runs a command that goes on, until so many lines have been written.
func following(t *testing.T, lines int, args ...string) (int, string, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := &whole{lines: lines, cancel: cancel}
	var errs bytes.Buffer
	got := Main(ctx, args, World{Out: out, Err: &errs, Getenv: func(string) string { return "" }, Zone: time.UTC, In: strings.NewReader("")})
	if ctx.Err() == context.DeadlineExceeded {
		t.Errorf("failoverctl %q has written after a minute\n%s%s", args, out.text, &errs)
	}
	return got, string(out.text), errs.String()
}

// A stream that ends is taken up where it was, and nothing is told twice.
func TestFollow(t *testing.T) {
	f := serve(t)
	third, err := json.Marshal(happened[2])
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu    sync.Mutex
		lasts []string
	)
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	eventful(f, func(n int, last string, send func(string, ...any)) {
		mu.Lock()
		lasts = append(lasts, last)
		mu.Unlock()
		switch n {
		case 1:
			// In pieces, with a comment, a field that nobody knows, and an event that is not whole.
			send(": hello\r\n\r\nid: p-3\r\nevent: over")
			send("ride\nretry: 1\ndata: %s\n\nid: p-4\nevent: answer\ndata: {\"kind\":", third)
		case 2:
			send("event: reset\ndata: {}\n\n")
			send("id: q-1\nevent: answer\ndata: {\"id\":\"q-1\",\ndata: \"kind\":\"answer\",\"at\":%q,\"pool\":\"a.\",\"answer\":\"NODATA\"}\n\n", noon.Format(time.RFC3339))
			<-hold
		}
	})
	got, out, errs := following(t, 4, "-server", f.URL, "events", "-follow")
	want := []string{
		"2026-11-24 12:00:00  www.example.org. fra 192.0.2.10:443: up -> down (3 failures: connection refused); now answering 198.51.100.10",
		"2026-11-24 12:00:01  www.example.org. (view europe) now answering 192.0.2.10 (a hold is over)",
		"2026-11-24 12:01:00  set label fra: drain by alice@ns1 until 2026-11-24T13:00:00Z: move",
		"2026-11-24 12:00:00  a. now answering NODATA",
	}
	if lines := strings.Split(strings.TrimSpace(out), "\n"); got != good || !slices.Equal(lines, want) {
		t.Errorf("The status is %d, and the events are\n%s\nwant\n%s", got, out, strings.Join(want, "\n"))
	}
	if want := []string{"p-2", "p-3"}; !slices.Equal(lasts, want) {
		t.Errorf("The stream was asked for after %q, want %q", lasts, want)
	}
	for _, want := range []string{"has ended the stream: unexpected EOF; trying again", "the server has begun anew"} {
		if !strings.Contains(errs, want) {
			t.Errorf("It says %q, want %q", errs, want)
		}
	}
}

// A line for each event is what watch writes where there is no terminal, with -o json for programs.
func TestWatchLines(t *testing.T) {
	f := serve(t)
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	eventful(f, func(_ int, _ string, send func(string, ...any)) {
		for _, e := range happened {
			b, _ := json.Marshal(e)
			send("id: %s\nevent: %s\ndata: %s\n\n", e.ID, e.Kind, b)
		}
		<-hold
	})
	got, out, errs := following(t, 3, "-server", f.URL, "watch", "www.example.org", "-o", "json")
	var last api.Event
	if err := json.Unmarshal([]byte(strings.Split(out, "\n")[2]), &last); err != nil || got != good || last.ID != "p-3" {
		t.Errorf("The status is %d, and the events are\n%s%s", got, out, errs)
	}
}

// A stream is not to be had from everybody, and not without end.
func TestFollowRefused(t *testing.T) {
	f := serve(t)
	f.mux.HandleFunc("GET /api/v1/events", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Accept"), "text/event-stream") {
			problemOf(w, api.Problem{Title: "Too Many Requests", Status: 429, Detail: "there are 100 streams already"})
			return
		}
		answer(w, map[string]any{"events": nil})
	})
	got := run(t, "-server", f.URL, "events", "-follow")
	if got.status != refused || !strings.Contains(got.err, "there are 100 streams already") {
		t.Errorf("The status is %d, and it says %q", got.status, got.err)
	}
}

func TestReadBounded(t *testing.T) {
	last := ""
	endless := strings.NewReader("data: " + strings.Repeat("a", longest+1) + "\n\n")
	if err := read(endless, &last, func() {}, func(message) error { return nil }); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("A line without end: %v", err)
	}
	many := strings.NewReader(strings.Repeat("data: "+strings.Repeat("a", 1<<20)+"\n", 40))
	if err := read(many, &last, func() {}, func(message) error { return nil }); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("An event without end: %v", err)
	}
}

// pen is a terminal of a test, which ends the run when it shows what is wanted.
type pen struct {
	picture string
	wants   []string
	cancel  context.CancelFunc
}

func (p *pen) Write(b []byte) (int, error) {
	p.picture = strings.ReplaceAll(string(b), "\x1b[K", "")
	if !slices.ContainsFunc(p.wants, func(want string) bool { return !strings.Contains(p.picture, want) }) {
		p.cancel()
	}
	return len(b), nil
}

// On a terminal the pools are drawn, and drawn anew when one of them has changed.
func TestWatch(t *testing.T) {
	f := serve(t)
	changed := document().Pools[2]
	changed.Answer.Text, changed.Answer.Addresses, changed.Unwell = "198.51.100.10", []string{"198.51.100.10"}, true
	b, err := json.Marshal(changed)
	if err != nil {
		t.Fatal(err)
	}
	e, err := json.Marshal(happened[0])
	if err != nil {
		t.Fatal(err)
	}
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	eventful(f, func(n int, _ string, send func(string, ...any)) {
		if n == 1 {
			return // and it comes back
		}
		send("event: warnings\ndata: %s\n\n", `{"warnings":[{"kind":"share","text":"etcd is lost"}]}`)
		send("event: pool\ndata: %s\n\nid: p-1\nevent: transition\ndata: %s\n\n", b, e)
		<-hold
	})
	for args, wants := range map[string][]string{
		"watch": {
			"ns1, up 3d4h: 3 pools, 6 members, 1 in fallback, 1 on a backup, 3 unwell, 2 down, 1 override\n", "warning: etcd is lost\n",
			"www.example.org.  0         2/2  7s   198.51.100.10\n", "fra 192.0.2.10:443: up -> down",
		},
		"watch www.example.org": {"It answers 198.51.100.10 (tier 0)", "fra 192.0.2.10:443: up -> down"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out := &pen{wants: wants, cancel: cancel}
		var errs bytes.Buffer
		got := Main(ctx, append([]string{"-server", f.URL}, strings.Fields(args)...), World{
			Out: out, Err: &errs, In: strings.NewReader(""), Zone: time.UTC, Terminal: true,
			Getenv: func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] },
			Rows:   func() int { return 40 },
		})
		if got != good || ctx.Err() != context.Canceled {
			t.Errorf("failoverctl %s has the status %d, says %q and draws\n%s\nwant %q", args, got, &errs, out.picture, wants)
		}
	}
}

// The end of a start is told as the log has it, in the list and as it comes.
func TestSummaryEvents(t *testing.T) {
	const text = "Server started; 25,000 pools: 99,990 members up, 10 down"
	summary := api.Event{ID: "p-1", At: noon, Kind: "server", Change: "started", Why: "25,000 pools: 99,990 members up, 10 down"}
	f := serve(t)
	f.mux.HandleFunc("GET /api/v1/events", func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Accept"), "text/event-stream") {
			answer(w, map[string]any{"events": []api.Event{summary}})
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		b, err := json.Marshal(summary)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "id: p-2\nevent: server\ndata: %s\n\n", b)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	if got, want := run(t, "-server", f.URL, "events"), "2026-11-24 12:00:00  "+text+"\n"; got.status != good || got.out != want {
		t.Errorf("The status is %d, and the events are\n%s%s, want\n%s", got.status, got.out, got.err, want)
	}
	got, out, errs := following(t, 1, "-server", f.URL, "watch")
	if want := "2026-11-24 12:00:00  " + text + "\n"; got != good || out != want {
		t.Errorf("The status of watch is %d, and it tells\n%s%s, want\n%s", got, out, errs, want)
	}
}
