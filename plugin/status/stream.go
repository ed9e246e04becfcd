package status

import (
	"encoding/json"
	"fmt"
	"net/http"
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
	answer(w, map[string][]Event{"events": s.journal.Events(canonical(r.URL.Query().Get("pool")))})
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
	if s.streams.Add(1) > maxStreams {
		s.streams.Add(-1)
		problem(w, http.StatusTooManyRequests, fmt.Sprintf("more than %d follow the events", maxStreams))
		return
	}
	defer s.streams.Add(-1)
	q := r.URL.Query()
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = q.Get("last")
	}
	only := canonical(q.Get("pool"))
	reader, ok := s.journal.follow(last, q.Get("pools") == "true")
	defer s.journal.leave(reader)

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := stream{w, http.NewResponseController(w)}
	out.begin()
	if !ok {
		out.event("", "reset", struct{}{})
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
			out.begin()
			fmt.Fprint(w, ": still here\n\n")
			continue
		case <-pace.C:
			paced = true
		case <-reader.wake:
		}
		events, touched, reload := s.journal.news(reader, paced)
		out.begin()
		for _, e := range events {
			if only == "" || e.Pool == only || e.Pool == "" {
				out.event(e.ID, e.Kind, e)
			}
		}
		if reload {
			out.event("", "reload", struct{}{})
		}
		for _, id := range touched {
			if p, ok := s.source.PoolByID(id); ok && (only == "" || p.Name == only) {
				out.event("", "pool", p)
			}
		}
		if paced && (reload || len(touched) > 0) {
			paced = false
			pace.Reset(poolPace)
		}
	}
}

// stream is the writing end of an event stream.
type stream struct {
	http.ResponseWriter
	control *http.ResponseController
}

// begin gives the client its time anew.
func (s stream) begin() { s.control.SetWriteDeadline(time.Now().Add(patience)) }

func (s stream) flush() error { return s.control.Flush() }

func (s stream) event(id, kind string, document any) {
	data, err := json.Marshal(document)
	if err != nil {
		return // there is no such document
	}
	if id != "" {
		fmt.Fprintf(s, "id: %s\n", id)
	}
	fmt.Fprintf(s, "event: %s\ndata: %s\n\n", kind, data)
}
