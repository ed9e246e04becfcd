package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// maxStreams is how many may follow the events at once.
	maxStreams = 64

	// heartbeat keeps what lies between from ending a stream where nothing happens.
	heartbeat = 15 * time.Second

	// poolPace is the least time between two reports of the same pool in one stream.
	poolPace = 250 * time.Millisecond

	// patience is how long a client may take to take what is written to it.
	patience = 5 * time.Second
)

// events answers with the events of the last day, or follows them.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		s.follow(w, r)
		return
	}
	pool, err := s.poolOfEvents(r.URL.Query().Get("pool"))
	if err != nil {
		problem(w, http.StatusNotFound, err.Error())
		return
	}
	events := func(yield func(Event) bool) {
		for e := range s.journal.Events(pool) {
			if s.concerns(&e, pool) && !yield(e) {
				return
			}
		}
	}
	begins := ""
	if since := s.journal.Since(); !since.IsZero() { // asked last: it may move on, and never back
		begins = `"since":"` + since.Format(time.RFC3339Nano) + `",`
	}
	list(w, "{"+begins+`"events":`, events, "}")
}

// poolOfEvents returns the first name of the pool that has a name, as events have it; "" stays that. The error says that
// there is no such pool, now or in the journal.
func (s *Server) poolOfEvents(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	name = canonical(name)
	for _, p := range s.source.PoolsOf(name) {
		if p.Name == name || slices.Contains(p.Names, name) {
			return p.Name, nil
		}
	}
	for e := range s.journal.Events(name) {
		if e.Pool == name {
			return name, nil
		}
	}
	return "", fmt.Errorf("no pool has the name %q, and the journal has no event of such a pool", name)
}

// concerns reports whether an event is of a pool, by its first name. An override of all pools concerns those that have the
// member. Every event concerns "".
func (s *Server) concerns(e *Event, pool string) bool {
	if pool == "" || e.Pool == pool {
		return true
	}
	if e.Pool != "" || e.Override == nil {
		return e.Pool == ""
	}
	for _, p := range s.source.PoolsOf(pool) {
		for _, t := range p.Tiers {
			for _, m := range t.Members {
				if o := e.Override; o.Label != "" && strings.EqualFold(o.Label, m.Label) ||
					o.Member != "" && (o.Member == m.Address || strings.HasPrefix(m.Address, bracketed(o.Member)+":")) {
					return true
				}
			}
		}
	}
	return false
}

// bracketed returns an address as it stands before a port.
func bracketed(member string) string {
	if strings.Contains(member, ":") && !strings.HasPrefix(member, "[") {
		return "[" + member + "]"
	}
	return member
}

// canonical is a name as pools have it; "" stays that.
func canonical(name string) string {
	if name == "" || strings.HasSuffix(name, ".") {
		return strings.ToLower(name)
	}
	return strings.ToLower(name) + "."
}

// follow writes events until the client or the server ends.
func (s *Server) follow(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	pools, err := flag(q, "pools")
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	only, err := s.poolOfEvents(q.Get("pool"))
	if err != nil {
		problem(w, http.StatusNotFound, err.Error())
		return
	}
	if s.streams.Add(1) > maxStreams {
		s.streams.Add(-1)
		problem(w, http.StatusTooManyRequests, fmt.Sprintf("more than %d follow the events", maxStreams))
		return
	}
	defer s.streams.Add(-1)
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = q.Get("last")
	}
	reader, ok := s.journal.follow(last, pools)
	defer s.journal.leave(reader)

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	out := stream{w, http.NewResponseController(w)}
	if !ok {
		out.event("", "reset", struct{}{})
	}
	var warned []Warning
	if pools {
		warned = s.source.Warnings()
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	pace := time.NewTimer(poolPace)
	defer pace.Stop()
	paced := true // the pace allows to report pools
	for {
		if err := out.flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-listenOf(r).closing:
			return
		case <-beat.C:
			if now := s.source.Warnings(); pools && !slices.Equal(now, warned) {
				if err := out.event("", "warnings", struct {
					Warnings []Warning `json:"warnings"`
				}{now}); err != nil {
					return
				}
				warned = now
				continue
			}
			out.comment("still here")
			continue
		case <-pace.C:
			paced = true
		case <-reader.wake:
		}
		n := s.journal.news(reader, paced)
		if err := s.report(out, n, only); err != nil {
			return
		}
		if paced && (n.reload || len(n.touched) > 0) {
			paced = false
			pace.Reset(poolPace)
		}
	}
}

// report writes news, and stops at the first error: there is nobody any more.
func (s *Server) report(out stream, n news, only string) error {
	if n.lost {
		if err := out.event("", "reset", struct{}{}); err != nil {
			return err
		}
	}
	for _, e := range n.events {
		if !s.concerns(&e, only) {
			continue
		}
		if err := out.event(e.ID, e.Kind, e); err != nil {
			return err
		}
	}
	if n.reload {
		if err := out.event("", "reload", struct{}{}); err != nil {
			return err
		}
	}
	for _, id := range n.touched {
		p, ok := s.source.PoolByID(id)
		if !ok || only != "" && p.Name != only {
			continue
		}
		if err := out.event("", "pool", p); err != nil {
			return err
		}
	}
	return nil
}

// stream is the writing end of an event stream. Each write has its own time, so that a client that is slow gets what
// there is, and one that does not read is left after patience.
type stream struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (s stream) flush() error {
	s.control.SetWriteDeadline(time.Now().Add(patience))
	return s.control.Flush()
}

func (s stream) event(id, kind string, document any) error {
	data, err := json.Marshal(document)
	if err != nil {
		return err
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	s.control.SetWriteDeadline(time.Now().Add(patience))
	_, err = fmt.Fprintf(s, "%sevent: %s\ndata: %s\n\n", id, kind, data)
	return err
}

// comment writes what a client ignores.
func (s stream) comment(text string) {
	s.control.SetWriteDeadline(time.Now().Add(patience))
	fmt.Fprintf(s, ": %s\n\n", text)
}
