package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// silence is how long a stream may say nothing: the server says something every 15 seconds.
	silence = 45 * time.Second

	// longest is the longest line of a stream, in bytes: an overlay with ten thousand members.
	longest = 32 << 20
)

// message is one of a stream of events.
type message struct {
	event string // its name; "open" is ours: the stream has begun, or begun again
	data  []byte
}

// follow calls each for what happens from now on, or after the event with the ID last, until each returns an error, or
// the context ends, which is none. A stream that ends is taken up again where it was, of which lost is told; one that has never begun
// is an error.
func (c *client) follow(ctx context.Context, query url.Values, last string, lost func(error), each func(message) error) error {
	began := false
	for wait := time.Duration(0); ; wait = min(max(2*wait, time.Second), 15*time.Second) {
		err := c.stream(ctx, query, &last, func(m message) error {
			began = true
			if m.event != "open" {
				wait = 0
			}
			if err := each(m); err != nil {
				return stop{err}
			}
			return nil
		})
		if ctx.Err() != nil {
			return nil
		}
		if s, ok := errors.AsType[stop](err); ok {
			return s.error
		}
		if p, ok := errors.AsType[*problem](err); ok && p.Status < 500 && p.Status != http.StatusTooManyRequests || !began {
			return err
		}
		lost(err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// stop is an error of who reads a stream, not of the stream.
type stop struct{ error }

// stream reads one stream to its end, which is always an error. last is the ID of the latest event.
func (c *client) stream(ctx context.Context, query url.Values, last *string, each func(message) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(fmt.Errorf("nothing heard for %s", silence)) })
	defer quiet.Stop()

	r, err := c.request(ctx, http.MethodGet, "events", query, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "text/event-stream, application/problem+json")
	if *last != "" {
		r.Header.Set("Last-Event-ID", *last)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return c.problem(answer)
	}
	if mediaType(answer) != "text/event-stream" {
		return c.stranger(answer)
	}
	if err := each(message{event: "open"}); err != nil {
		return err
	}
	err = read(answer.Body, last, func() { quiet.Reset(silence) }, each)
	if _, ok := errors.AsType[stop](err); ok {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("%s has ended the stream: %w", c.word, err)
}

// read takes a stream apart (HTML, 9.2.6). heard is called with every line.
func read(r io.Reader, last *string, heard func(), each func(message) error) error {
	var m message
	id := *last
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), longest)
	for lines.Scan() {
		heard()
		line := lines.Text()
		if line == "" {
			*last = id
			if m.data != nil {
				m.event = or(m.event, "message")
				if err := each(m); err != nil {
					return err
				}
			}
			m = message{}
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			m.event = value
		case "id":
			id = value
		case "data":
			if m.data != nil {
				m.data = append(m.data, '\n')
			}
			if len(m.data)+len(value) > longest {
				return bufio.ErrTooLong
			}
			m.data = append(m.data, value...)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}
