package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// every is the pace of asking, and so how finely a change is timed.
	every = 25 * time.Millisecond

	// settle is how long a change may take. By the Corefile it takes at most 1s + 2 x 200ms; the
	// rest is for a machine with other work.
	settle = 10 * time.Second

	// stay is how long an answer must then stay as it is, and how long there is to read it.
	stay = 2 * time.Second
)

// A step of the story is what is done to the members, by index, and the answer that follows.
type step struct {
	say   string
	stop  []int
	start []int
	want  string
}

var story = []step{
	{say: "All three work: the answer is the primary tier, in the order written.",
		want: "127.0.0.1 127.0.0.2"},
	{say: "Stop east.", stop: []int{0},
		want: "127.0.0.2"},
	{say: "Start east again.", start: []int{0},
		want: "127.0.0.1 127.0.0.2"},
	{say: "Stop east and west: it is the backup's turn.", stop: []int{0, 1},
		want: "127.0.0.3"},
	{say: "Stop the spare too: nothing works, and rather than nothing the answer is everything.", stop: []int{2},
		want: "127.0.0.1 127.0.0.2 127.0.0.3"},
	{say: "Start all three.", start: []int{0, 1, 2},
		want: "127.0.0.1 127.0.0.2"},
}

// A demo has the members in its hand and an eye on the answer.
type demo struct {
	screen  *screen
	server  string
	members []*member

	acted time.Time // when a member was last stopped or started
	seen  answer
}

// tell plays the steps, and ends at the first that goes wrong.
func (d *demo) tell(ctx context.Context, steps []step) error {
	var slowest time.Duration
	for _, s := range steps {
		d.screen.line(bold, s.say)
		took, err := d.play(ctx, s)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			return fmt.Errorf("%s %w", s.say, err)
		}
		slowest = max(slowest, took)
	}
	d.screen.printf(bold, "That was all. The slowest change took %.2fs.", slowest.Seconds())
	return nil
}

// play returns how long it took until the answer was the one wanted.
func (d *demo) play(ctx context.Context, s step) (time.Duration, error) {
	if err := d.act(s.stop, s.start); err != nil {
		return 0, err
	}
	if !d.watch(ctx, settle, func(got string) bool { return got == s.want }) {
		return 0, fmt.Errorf("after %v the answer is %q, want %q", settle, d.seen.addrs, s.want)
	}
	took := time.Since(d.acted)
	if d.watch(ctx, stay, func(got string) bool { return got != s.want }) {
		return 0, fmt.Errorf("the answer went on to %q, want it to stay %q", d.seen.addrs, s.want)
	}
	return took, nil
}

func (d *demo) act(stop, start []int) error {
	d.acted = time.Now()
	for _, i := range stop {
		d.members[i].stop()
	}
	for _, i := range start {
		if err := d.members[i].start(); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) stopMembers() {
	for _, m := range d.members {
		m.stop()
	}
}

// watch asks again and again until done is content with what it got, or limit is over.
func (d *demo) watch(ctx context.Context, limit time.Duration, done func(got string) bool) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if done(d.look(ctx)) {
			return true
		}
		select {
		case <-tick.C:
		case <-end.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// look asks once, and shows what is new.
func (d *demo) look(ctx context.Context) string {
	got := lookup(ctx, d.server, name)
	if ctx.Err() != nil {
		return d.seen.addrs // not the server's fault
	}
	if got.addrs != d.seen.addrs || got.note != d.seen.note {
		d.screen.printf(green, "%s is %s  [after %.2fs]", name, got, time.Since(d.acted).Seconds())
		d.seen = got
	}
	return got.addrs
}
