package main

import (
	"bufio"
	"context"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// serve shows each change of the answer, and does what the lines of in say, until in ends.
func (d *demo) serve(ctx context.Context, in io.Reader, port int) {
	d.acted = time.Now()
	d.screen.printf(bold, "Ask it:    dig @127.0.0.1 -p %d %s", port, name)
	d.screen.printf(bold, "A member:  curl http://%s:%d/", ips[0], d.members[0].port)
	d.help()
	lines := make(chan string)
	go func() { // ends with in, at the latest with the process
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		d.look(ctx)
		select {
		case <-tick.C:
		case line, ok := <-lines:
			if !ok || !d.obey(line) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (d *demo) help() {
	d.screen.line(bold, "Type:      stop 1, start 1 (1 east, 2 west, 3 spare, or all), quit")
}

// obey carries out one line, and is false when that was quit.
func (d *demo) obey(line string) bool {
	words := strings.Fields(line)
	switch {
	case len(words) == 0:
	case words[0] == "quit":
		return false
	case len(words) == 2 && words[0] == "stop" && d.find(words[1]) != nil:
		_ = d.act(d.find(words[1]), nil) // stopping does not fail
	case len(words) == 2 && words[0] == "start" && d.find(words[1]) != nil:
		if err := d.act(nil, d.find(words[1])); err != nil {
			d.screen.printf(plain, "cannot start %s: %v", words[1], err)
		}
	default:
		d.help()
	}
	return true
}

// find returns the indices of the members meant by a number, a label or "all"; nil when none is.
func (d *demo) find(word string) []int {
	if word == "all" {
		return []int{0, 1, 2}
	}
	if i := slices.Index(labels, word); i >= 0 {
		return []int{i}
	}
	if n, err := strconv.Atoi(word); err == nil && n >= 1 && n <= len(labels) {
		return []int{n - 1}
	}
	return nil
}
