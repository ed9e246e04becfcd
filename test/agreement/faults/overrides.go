package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// change asks a site for a change at a path below its overrides, with a body.
func (l *lab) change(site int, method, path, body string) error {
	socket := l.socket(site)
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}}
	r, err := http.NewRequest(method, "http://localhost/api/v1/overrides/"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("%s %s %s: %s\n%s", method, path, body, answer.Status, text)
	}
	return nil
}

// drain has a site take a member out of the answers, until that is cleared.
func (l *lab) drain(site, member int) error {
	return l.change(site, http.MethodPut, "members/"+l.member(member), `{"action": "drain", "reason": "a test"}`)
}

// drainFor has it end by itself. Ends are rounded up to a second.
func (l *lab) drainFor(site, member int, d time.Duration) error {
	return l.change(site, http.MethodPut, "members/"+l.member(member), fmt.Sprintf(`{"action": "drain", "reason": "a test", "for": %q}`, d))
}

// clear has a site end an override of a member.
func (l *lab) clear(site, member int) error {
	return l.change(site, http.MethodDelete, "members/"+l.member(member), "")
}

// drained has one site drain a member, and another put it back, either way round.
func drained(l *lab, r *report) error {
	r.everybody("1 2, 1, 1 2, 1, 1 2")
	for _, by := range [][2]int{{0, 2}, {2, 0}} {
		begin := time.Now()
		if err := l.drain(by[0], 1); err != nil {
			return err
		}
		if err := l.decided("a member is drained", "1"); err != nil {
			return err
		}
		took := time.Since(begin)
		time.Sleep(2 * time.Second)
		begin = time.Now()
		if err := l.clear(by[1], 1); err != nil {
			return err
		}
		if err := l.decided("that is cleared", "1 2"); err != nil {
			return err
		}
		r.note("what %s drains is drained everywhere after %s, and what %s puts back is back after %s", names[by[0]], seconds(took), names[by[1]], seconds(time.Since(begin)))
	}
	return nil
}

// drainedFor has each site drain a member for some seconds, by its own clock.
func drainedFor(l *lab, r *report) error {
	r.everybody("1 2, 1, 1 2, 1, 1 2, 1, 1 2")
	for site := range names {
		if err := l.lasts(r, site, 8*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// lasts has a site drain a member for so long, and compares that with how long it is drained.
func (l *lab) lasts(r *report, site int, d time.Duration) error {
	const inexact = 3 * time.Second
	begin := time.Now()
	if err := l.drainFor(site, 1, d); err != nil {
		return err
	}
	var begun, ended extent
	if _, err := await(d+time.Second+inexact, fmt.Sprintf("what %s drains for %s is drained, and comes back", names[site], d), func() bool {
		begun, ended = extent{}, extent{}
		for i := range l.replicas {
			begun.add(l.replicas[i].since("1", begin))
			ended.add(l.replicas[i].since("1 2", begin))
		}
		return begun.n == sites && ended.n == sites
	}); err != nil {
		return err
	}
	r.note("what %s drains for %s is drained everywhere after %s, and comes back after %s to %s", names[site], d,
		seconds(begun.last.Sub(begin)), seconds(ended.first.Sub(begin)), seconds(ended.last.Sub(begin)))
	if begun.last.Sub(begin) > prompt || ended.first.Sub(begin) < d-time.Second {
		return fmt.Errorf("what %s drains for %s is drained late, or comes back early", names[site], d)
	}
	return nil
}
