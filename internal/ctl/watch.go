package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
)

// watch shows what happens, as it happens: on a terminal the pools as they are, else the events in lines.
func watch(ctx context.Context, s *session) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	query := url.Values{}
	if len(s.args) > 0 {
		query.Set("pool", fqdn(s.args[0]))
	}
	if !s.Terminal || s.output == "json" {
		return s.followEvents(ctx, c, query, "")
	}
	query.Set("pools", "true")
	return s.draw(ctx, c, query)
}

// scene is what is on the terminal.
type scene struct {
	document *api.Document
	events   []api.Event   // the latest
	lost     error         // nil: what is shown is what is
	ahead    time.Duration // of the server's clock
}

// draw shows the pools, and shows them anew when something has changed, and each second for what has grown older.
func (s *session) draw(ctx context.Context, c *client, query url.Values) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages, ended, lost := make(chan message), make(chan error, 1), make(chan error)
	go func() { // ends with ctx, and is waited for below
		ended <- c.follow(ctx, query, "", func(err error) {
			select {
			case lost <- err:
			case <-ctx.Done():
			}
		}, func(m message) error {
			select {
			case messages <- m:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()

	var now scene
	due := time.NewTimer(0)
	defer due.Stop()
	const soon, tick = 100 * time.Millisecond, time.Second // many changes at once are one picture
	for {
		var err error
		select {
		case err = <-ended:
			return err
		case now.lost = <-lost:
			due.Reset(soon)
		case m := <-messages:
			if err = s.take(ctx, c, &now, m); err == nil {
				due.Reset(soon)
			}
		case <-due.C:
			due.Reset(tick)
			if now.document != nil {
				s.picture(&now)
			}
			err = s.say.err
		}
		if err != nil {
			over := ctx.Err() != nil // by who runs it
			cancel()
			<-ended
			if over {
				return nil
			}
			return err
		}
	}
}

// take has the scene be what a message says.
func (s *session) take(ctx context.Context, c *client, now *scene, m message) error {
	switch m.event {
	case "open", "reset", "reload": // and what pools have changed to while nobody listened is not told
		d, err := s.shown(ctx, c)
		if err != nil {
			return err
		}
		now.document, now.lost, now.ahead = d, nil, time.Until(d.Server.Now)
	case "pool":
		var p api.Pool
		if err := json.Unmarshal(m.data, &p); err != nil {
			return fmt.Errorf("a pool of %s cannot be read: %w", c.word, err)
		}
		if i := slices.IndexFunc(now.document.Pools, func(known api.Pool) bool { return known.ID == p.ID }); i >= 0 {
			now.document.Pools[i] = p
		}
	case "warnings":
		var list struct{ Warnings []api.Warning }
		if err := json.Unmarshal(m.data, &list); err != nil {
			return fmt.Errorf("the warnings of %s cannot be read: %w", c.word, err)
		}
		now.document.Warnings = list.Warnings
	case "transition", "answer", "override", "server":
		var e api.Event
		if err := json.Unmarshal(m.data, &e); err != nil {
			return fmt.Errorf("an event of %s cannot be read: %w", c.word, err)
		}
		now.events = append(now.events, e)
		now.events = now.events[max(0, len(now.events)-maxRows):]
	}
	return nil
}

// shown is what the session watches.
func (s *session) shown(ctx context.Context, c *client) (*api.Document, error) {
	if len(s.args) == 0 {
		return c.pools(ctx, url.Values{})
	}
	d := new(api.Document)
	return d, c.get(ctx, "pools/"+segment(fqdn(s.args[0])), nil, d)
}

// maxRows is how many rows of a kind no terminal has.
const maxRows = 200

// picture draws the scene over what is on the terminal.
func (s *session) picture(now *scene) {
	rows := s.Rows()
	var b bytes.Buffer
	p := &printer{w: &b, color: s.say.color, zone: s.say.zone}
	at := time.Now().Add(now.ahead)
	pools := now.document.Pools
	if len(s.args) > 0 {
		for i := range pools {
			p.story(&pools[i], fqdn(s.args[0]), at)
		}
	} else {
		now.document.Server.Now, now.document.Summary = at, summary(now.document)
		p.server(now.document)
		pools = slices.Clone(pools)
		slices.SortStableFunc(pools, func(a, b api.Pool) int { return unwell(&b) - unwell(&a) })
		room := max(3, rows-4-len(now.document.Warnings)-min(len(now.events), rows/3))
		p.pools(pools[:min(len(pools), room)], at)
		if more := len(pools) - room; more > 0 {
			p.printf("and %s\n", count(more, "further pool"))
		}
	}
	head := strings.Count(b.String(), "\n")
	tail := max(0, min(len(now.events), rows-head-3))
	if tail > 0 {
		p.printf("\n")
	}
	for i := range now.events[len(now.events)-tail:] {
		p.event(&now.events[len(now.events)-tail+i])
	}
	if now.lost != nil {
		p.printf("%s\n", styled(red, now.lost.Error()+"; trying again"))
	}
	lines := strings.SplitAfter(b.String(), "\n")
	lines = lines[:min(len(lines), max(1, rows-1))]
	// Each line takes the rest of its row with it, and the last all rows below: nothing flickers, and nothing stays.
	// What is too long for a row ends there.
	s.say.write("\x1b[H\x1b[?7l" + strings.ReplaceAll(strings.Join(lines, ""), "\n", "\x1b[K\n") + "\x1b[J\x1b[?7h")
}

func unwell(p *api.Pool) int {
	if p.Unwell {
		return 1
	}
	return 0
}

// summary counts over all pools of a document that has them all. How many overrides there are is not to be seen from
// pools.
func summary(d *api.Document) api.Summary {
	sum := api.Summary{Pools: len(d.Pools), Overrides: d.Summary.Overrides}
	for i := range d.Pools {
		p := &d.Pools[i]
		sum.Unwell += unwell(p)
		switch p.Answer.Tier {
		case "", "0":
		case "fallback":
			sum.Fallback++
		default:
			sum.Backup++
		}
		for _, t := range p.Tiers {
			for _, m := range t.Members {
				sum.Members++
				switch m.Status {
				case "up":
					sum.Up++
				case "down":
					sum.Down++
				default:
					sum.Unknown++
				}
			}
		}
	}
	return sum
}
