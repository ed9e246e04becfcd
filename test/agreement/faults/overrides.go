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
