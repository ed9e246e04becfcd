package ctl

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/override"
)

// overrideFlags are those of all commands that decide about a member.
func overrideFlags(fs *flag.FlagSet, o *options) {
	fs.Func("pool", "in the pool of this `NAME` only; MEMBER may be a label then", func(name string) error {
		if o.pool = name; name == "" { // of a shell's variable that is not set: it would be in all pools
			return errors.New("want a name")
		}
		return nil
	})
	fs.BoolVar(&o.label, "label", false, "MEMBER is a label: all members that have it, in all pools")
	fs.StringVar(&o.reason, "reason", "", "`TEXT` that is shown with the member, and why in the log")
	fs.StringVar(&o.author, "author", "", "`NAME` of who decides ($SUDO_USER or $USER, at this host)")
	fs.BoolVar(&o.dryRun, "dry-run", false, "only show what would be answered")
	fs.BoolVar(&o.force, "force", false, "even if a pool is left without a usable tier, and without asking")
}

// setFlags are those of drain, down and up.
func setFlags(fs *flag.FlagSet, o *options) {
	overrideFlags(fs, o)
	fs.StringVar(&o.lasts, "for", "", "end by itself after this `DURATION`, such as 90m")
	fs.StringVar(&o.until, "until", "", "end by itself at this `TIME`, such as 17:30, \"2026-11-24 17:30\" or 2026-11-24T17:30:00Z")
}

// set sets an override.
func set(ctx context.Context, s *session) error {
	change := &api.Change{Action: override.Action(s.name), Reason: s.reason, Author: s.by()}
	switch {
	case s.lasts != "" && s.until != "":
		return errors.New("-for beside -until, want one of them")
	case s.lasts != "":
		if d, err := time.ParseDuration(s.lasts); err != nil || d <= 0 {
			return fmt.Errorf("-for %q, want a duration such as 90m or 2h", s.lasts)
		}
		change.For = s.lasts
	case s.until != "":
		var ok bool
		if change.Until, ok = parseTime(s.until, time.Now().In(s.Zone)); !ok {
			return fmt.Errorf("-until %q, want a time such as 17:30, \"2026-11-24 17:30\" or 2026-11-24T17:30:00Z", s.until)
		}
	}
	return s.decide(ctx, url.Values{}, change)
}

// unset ends an override.
func unset(ctx context.Context, s *session) error {
	query := url.Values{"author": {s.by()}}
	if s.reason != "" {
		query.Set("reason", s.reason)
	}
	return s.decide(ctx, query, nil)
}

// decide has the server do it, and shows what becomes of the answers. Where a pool is left without a usable tier,
// somebody has to say yes.
func (s *session) decide(ctx context.Context, query url.Values, change *api.Change) error {
	path, err := s.target()
	if err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	if s.dryRun {
		query.Set("dry-run", "true")
	}
	if s.force {
		query.Set("force", "true")
	}
	outcome, err := c.change(ctx, path, query, change)
	if p, ok := isBare(err); ok {
		if s.output == "json" {
			if err := s.say.json(p.Problem); err != nil {
				return err
			}
		} else {
			s.say.outcome(s, p.Outcome, "would become")
		}
		if s.dryRun || !s.Person || s.output == "json" {
			return saidNo{errors.New("not done: a pool would be left without a usable tier; -force does it all the same")}
		}
		if !s.asked() {
			return saidNo{errors.New("not done")}
		}
		query.Set("force", "true")
		outcome, err = c.change(ctx, path, query, change)
	}
	if err != nil {
		return err
	}
	if err := s.further(ctx, c, path, query, change, outcome); err != nil {
		return err
	}
	bare := false
	for _, e := range outcome.Effects {
		bare = bare || e.Bare
	}
	becomes := "becomes"
	if outcome.DryRun {
		becomes = "would become"
	}
	if s.output == "json" {
		err = s.say.json(outcome)
	} else {
		s.say.outcome(s, outcome, becomes)
	}
	if err == nil && outcome.DryRun && bare && !s.force {
		return saidNo{errors.New("a pool would be left without a usable tier; -force does it all the same")}
	}
	return err
}

// further adds the effects of a dry run that did not fit into its first answer.
func (s *session) further(ctx context.Context, c *client, path string, query url.Values, change *api.Change, outcome *api.Outcome) error {
	for s.dryRun && outcome.Members > 0 && len(outcome.Effects) < outcome.Pools-outcome.Unchanged {
		query.Set("offset", strconv.Itoa(len(outcome.Effects)))
		next, err := c.change(ctx, path, query, change)
		if err != nil {
			return err
		}
		if len(next.Effects) == 0 { // the pools have changed meanwhile
			break
		}
		outcome.Effects = append(outcome.Effects, next.Effects...)
	}
	return nil
}

// target is the path of whom an override is for.
func (s *session) target() (string, error) {
	member := s.args[0]
	_, isAddress := override.ParseMember(member)
	switch {
	case s.label && s.pool != "":
		return "", errors.New("-label beside -pool, want -pool only: MEMBER may be a label there")
	case s.label && isAddress:
		return "", fmt.Errorf("-label %q, want a label, which is no address", member)
	case s.label:
		return "overrides/labels/" + segment(member), nil
	case s.pool != "":
		return "overrides/pools/" + segment(fqdn(s.pool)) + "/members/" + segment(member), nil
	case !isAddress:
		return "", fmt.Errorf("member %q, want an address such as 192.0.2.10 or 192.0.2.10:443; with -label it is a label, and with -pool NAME it may be one", member)
	}
	return "overrides/members/" + segment(member), nil
}

func fqdn(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) + "." }

// by is who decides.
func (s *session) by() string {
	if s.author != "" {
		return s.author
	}
	name := or(s.Getenv("SUDO_USER"), s.Getenv("USER"))
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// asked asks who sits at the terminal.
func (s *session) asked() bool {
	fmt.Fprint(s.Err, "A pool is left without a usable tier. Do it all the same? [y/N] ")
	line, _ := bufio.NewReader(s.In).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

// parseTime reads a time to come. One without a day is the next such time.
func parseTime(word string, now time.Time) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339, word); err == nil {
		return t, true
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04"} {
		if t, err := time.ParseInLocation(layout, word, now.Location()); err == nil {
			return t, true
		}
	}
	clock, err := time.Parse("15:04", word)
	if err != nil {
		return time.Time{}, false
	}
	t := time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), 0, 0, now.Location())
	if !t.After(now) {
		t = time.Date(now.Year(), now.Month(), now.Day()+1, clock.Hour(), clock.Minute(), 0, 0, now.Location())
	}
	return t, true
}

// outcome shows what an override does to the answers.
func (p *printer) outcome(s *session, o *api.Outcome, becomes string) {
	switch {
	case o.Override != nil:
		p.printf("%s: %s\n", o.Override.Target.String(), o.Override.String())
	default:
		p.printf("%s: clear\n", s.args[0])
	}
	for i := range o.Effects {
		e := &o.Effects[i]
		pool := e.Pool
		if e.View != "" {
			pool += " (view " + e.View + ")"
		}
		after := inTier(&e.After)
		if e.Bare {
			after.style = red
		}
		members := or(strings.Join(e.Members, ", "), e.Member)
		if e.Before.Text == e.After.Text && e.Before.Tier == e.After.Tier {
			p.printf("  %s, %s: the answer stays %s\n", pool, members, after)
			continue
		}
		p.printf("  %s, %s: the answer %s %s, from %s\n", pool, members, becomes, after, inTier(&e.Before))
	}
	if more := o.Pools - o.Unchanged - len(o.Effects); more > 0 {
		p.printf("  and %s\n", count(more, "further pool"))
	}
	switch {
	case o.Unchanged == 1:
		p.printf("  1 pool keeps its answer\n")
	case o.Unchanged > 1:
		p.printf("  %d pools keep their answer\n", o.Unchanged)
	}
	if o.Pools > 1 && o.Members > 0 {
		p.printf("  %s in %s\n", count(o.Members, "member"), count(o.Pools, "pool"))
	}
	if o.Pools == 0 {
		p.printf("  no pool has such a member now\n")
	}
	for _, w := range o.Warnings {
		p.printf("%s %s\n", styled(yellow, "warning:"), w)
	}
	for _, n := range o.Notes {
		p.printf("note: %s\n", n)
	}
}

// inTier is an answer with its tier.
func inTier(a *api.Answer) text {
	switch a.Tier {
	case "":
		return plain(or(a.Text, "what the next plugins say"))
	case "fallback": // it says so
		return plain(a.Text)
	}
	return plain(a.Text + " (tier " + a.Tier + ")")
}
