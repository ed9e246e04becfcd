package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
)

func statusFlags(fs *flag.FlagSet, o *options) {
	fs.BoolVar(&o.unwell, "unwell", false, "only pools with anything out of the ordinary")
}

// statusOf is what the session asks for.
func statusOf(ctx context.Context, s *session) (*api.Document, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	query := url.Values{}
	if len(s.args) > 0 {
		query.Set("q", s.args[0])
	}
	if s.unwell {
		query.Set("unwell", "true")
	}
	return c.pools(ctx, query)
}

// showStatus shows the pools.
func showStatus(ctx context.Context, s *session) error {
	d, err := statusOf(ctx, s)
	if err != nil {
		return err
	}
	if s.output == "json" {
		if err := s.say.json(d); err != nil {
			return err
		}
		return warned(d)
	}
	s.say.server(d)
	switch {
	case len(d.Pools) > 0:
		s.say.pools(d.Pools, d.Server.Now)
	case s.unwell:
		s.say.printf("No pool is unwell.\n")
	default:
		s.say.printf("No pool is found.\n")
	}
	return warned(d)
}

// warned is an error if the server has a warning: its text is with the document.
func warned(d *api.Document) error {
	if len(d.Warnings) == 0 {
		return nil
	}
	return saidNo{errors.New("the server has " + count(len(d.Warnings), "warning"))}
}

// server is one line about the process and all of its pools.
func (p *printer) server(d *api.Document) {
	sum := d.Summary
	p.printf("%s, up %s: %s, %s", d.Server.Host, rough(d.Server.Now.Sub(d.Server.Started)), count(sum.Pools, "pool"), count(sum.Members, "member"))
	for _, n := range []struct {
		n     int
		words string
		style string
	}{
		{sum.Fallback, "in fallback", red}, {sum.Backup, "on a backup", yellow}, {sum.Unwell, "unwell", yellow}, {sum.Down, "down", red},
		{sum.Unknown, "unknown", yellow},
	} {
		if n.n > 0 {
			p.printf(", %s", styled(n.style, fmt.Sprintf("%d %s", n.n, n.words)))
		}
	}
	if sum.Overrides > 0 {
		p.printf(", %s", styled(yellow, count(sum.Overrides, "override")))
	}
	p.printf("\n")
	for i, site := range d.Server.Sites {
		p.printf("%s%s", [...]string{"sites: ", ", "}[min(i, 1)], site.Name)
		switch {
		case site.Ours && site.Fresh:
			p.printf(" (this one)")
		case site.Ours:
			p.printf(" %s", styled(yellow, "(this one, not seen by the others)"))
		case !site.Fresh:
			p.printf(" %s", styled(yellow, "(not heard of)"))
		}
	}
	if len(d.Server.Sites) > 0 {
		p.printf("\n")
	}
	for _, w := range d.Warnings {
		p.printf("%s %s", styled(red, "warning:"), w.Text)
		if !w.Since.IsZero() {
			p.printf(" (for %s)", rough(d.Server.Now.Sub(w.Since)))
		}
		p.printf("\n")
	}
}

// pools is a table of pools.
func (p *printer) pools(pools []api.Pool, now time.Time) {
	t := table{{styled(bold, "POOL"), styled(bold, "TIER"), styled(bold, "UP"), styled(bold, "TTL"), styled(bold, "ANSWER"), styled(bold, "NOT WELL")}}
	for i := range pools {
		pool := &pools[i]
		up, all := 0, 0
		for _, tier := range pool.Tiers {
			for _, m := range tier.Members {
				all++
				if m.Status == "up" {
					up++
				}
			}
		}
		t.add(plain(title(pool)), tierText(pool), plain(fmt.Sprintf("%d/%d", up, all)), plain(ttlText(pool)), plain(answerText(pool)), styled(yellow, notWell(pool, now)))
	}
	p.table(t)
}

// title is a pool's name, with the view where there is one.
func title(p *api.Pool) string {
	if p.View != "" {
		return p.Name + " (view " + p.View + ")"
	}
	return p.Name
}

// tierText is the tier in use.
func tierText(p *api.Pool) text {
	switch p.Answer.Tier {
	case "":
		return plain("overlay")
	case "fallback":
		return styled(red, "fallback")
	case "0":
		return styled(green, "0")
	}
	return styled(yellow, p.Answer.Tier)
}

func ttlText(p *api.Pool) string {
	if p.Overlay {
		return "-"
	}
	return fmt.Sprintf("%ds", p.Answer.TTL)
}

// maxAddresses is how many addresses of an answer a table shows.
const maxAddresses = 3

// answerText is what is answered, in short.
func answerText(p *api.Pool) string {
	switch n := len(p.Answer.Addresses); {
	case p.Overlay:
		return "what the next plugins say"
	case n == 0:
		return p.Answer.Text
	case n > maxAddresses:
		return fmt.Sprintf("%s and %d more", strings.Join(p.Answer.Addresses[:maxAddresses], " "), n-maxAddresses)
	}
	return strings.Join(p.Answer.Addresses, " ")
}

// maxNotWell is how many members a table tells of.
const maxNotWell = 2

// notWell is what is out of the ordinary about a pool's members, the worst first, in short.
func notWell(p *api.Pool, now time.Time) string {
	var rest [4][]string // by how bad they are
	for _, tier := range p.Tiers {
		for i := range tier.Members {
			if bad, words := condition(&tier.Members[i], now); words != "" {
				rest[bad] = append(rest[bad], tier.Members[i].Member+" "+words)
			}
		}
	}
	all := slices.Concat(rest[:]...)
	if more := len(all) - maxNotWell; more > 0 {
		all = append(all[:maxNotWell], fmt.Sprintf("%d more", more))
	}
	return strings.Join(all, "; ")
}

// condition is what is out of the ordinary about a member, from 0 for the worst; "": nothing.
func condition(m *api.Member, now time.Time) (int, string) {
	switch {
	case m.Override != nil:
		words := string(m.Override.Action)
		if m.Override.Author != "" {
			words += " by " + m.Override.Author
		}
		if !m.Override.Until.IsZero() {
			words += " for " + rough(m.Override.Until.Sub(now))
		}
		if m.Override.Reason != "" {
			words += ": " + m.Override.Reason
		}
		return 1, words
	case m.Status == "down":
		return 0, strings.TrimSuffix("down for "+rough(now.Sub(m.Since))+": "+m.Why, ": ")
	case m.Waiting:
		return 1, "up, and waits to be cleared"
	case !m.Held.IsZero():
		return 2, "up, held for " + rough(m.Held.Sub(now))
	case m.Status == "unknown":
		return 3, "unknown"
	}
	return 0, ""
}
