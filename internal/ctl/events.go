package ctl

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
)

func eventsFlags(fs *flag.FlagSet, o *options) {
	fs.BoolVar(&o.follow, "follow", false, "go on with what happens from now on")
}

// events lists what has happened, and goes on with what happens.
func events(ctx context.Context, s *session) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	var query url.Values
	if len(s.args) > 0 {
		query = url.Values{"pool": {fqdn(s.args[0])}}
	}
	var list struct {
		Since  time.Time   `json:"since,omitzero"` // the journal knows nothing of the time before
		Events []api.Event `json:"events"`
	}
	if err := c.get(ctx, "events", query, &list); err != nil {
		return err
	}
	if !s.follow {
		if s.output == "json" {
			return s.say.json(list)
		}
		if !list.Since.IsZero() {
			s.say.printf("%s  the journal begins\n", s.say.at(list.Since))
		}
		for i := range list.Events {
			s.say.event(&list.Events[i])
		}
		return nil
	}
	last := ""
	for i := range list.Events {
		last = list.Events[i].ID
		if err := s.event(&list.Events[i]); err != nil {
			return err
		}
	}
	return s.followEvents(ctx, c, query, last)
}

// followEvents writes each event as it comes.
func (s *session) followEvents(ctx context.Context, c *client, query url.Values, last string) error {
	return c.follow(ctx, query, last, s.lost, func(m message) error {
		switch m.event {
		case "reset":
			fmt.Fprintln(s.Err, "failoverctl: the server has begun anew; what happened meanwhile is not known")
		case "transition", "answer", "override", "server":
			var e api.Event
			if err := json.Unmarshal(m.data, &e); err != nil {
				return fmt.Errorf("an event of %s cannot be read: %w", c.word, err)
			}
			return s.event(&e)
		}
		return s.say.err
	})
}

// lost tells of a stream that has ended.
func (s *session) lost(err error) {
	fmt.Fprintln(s.Err, "failoverctl:", legible(err.Error())+"; trying again")
}

// event writes an event in one line.
func (s *session) event(e *api.Event) error {
	if s.output == "json" {
		if err := s.say.jsonLine(e); err != nil {
			return err
		}
	} else {
		s.say.event(e)
	}
	return s.say.err
}

// event writes an event in one line, like the server's log.
func (p *printer) event(e *api.Event) {
	pool := e.Pool
	if e.View != "" {
		pool += " (view " + e.View + ")"
	}
	p.printf("%s  ", p.at(e.At))
	switch e.Kind {
	case "transition":
		p.printf("%s %s: %s -> %s", pool, e.Member, e.From, statusText(e.To))
		if e.Why != "" {
			p.printf(" (%s)", e.Why)
		}
		if e.Answer != "" {
			p.printf("; now answering %s", e.Answer)
		}
	case "answer":
		p.printf("%s now answering %s", pool, e.Answer)
		if e.Why != "" {
			p.printf(" (%s)", e.Why)
		}
	case "override":
		p.printf("%s", styled(yellow, e.Change))
		o := e.Override
		if o != nil && e.Change == "set" {
			p.printf(" %s: %s", o.Target.String(), o.String())
			if e.Replaced != nil {
				p.printf("; it was %s", e.Replaced.String())
			}
		} else if o != nil {
			p.printf(" %s", o.Target.String())
			if e.By != "" {
				p.printf(" by %s", e.By)
			}
			if e.Why != "" {
				p.printf(": %s", e.Why)
			}
			if e.Change != "released" {
				p.printf("; it was %s, set %s", o.String(), p.at(o.Since))
			}
		}
		if e.Answer != "" {
			p.printf("; %s", strings.TrimSpace(pool+" now answering "+e.Answer))
		}
	case "server":
		p.printf("%s", serverText(e))
	default:
		p.printf("%s %s", e.Kind, pool)
	}
	p.printf("\n")
}

// serverText is what the server itself has done.
func serverText(e *api.Event) text {
	switch e.Change {
	case "started", "reloaded":
		words := map[string]string{"started": "Server started", "reloaded": "Corefile reloaded"}[e.Change]
		if e.Why != "" {
			words += "; " + e.Why
		}
		return plain(words)
	case "refused":
		return styled(red, "reload refused: "+e.Why)
	}
	return plain(strings.TrimSpace("server " + e.Change + " " + e.Why))
}

// statusText is a member's status in its colour.
func statusText(s string) text {
	return styled(map[string]string{"up": green, "down": red, "unknown": yellow}[s], s)
}
