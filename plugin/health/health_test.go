package health

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// letters are the statuses as the tests below write them.
const letters = "?UD"

// pass and fail are results as they are written in a script: p and f.
const pass, fail = 'p', 'f'

// follow is the history after some results, and the status after each of them.
func follow(h History, results string, s *Settings) (History, string) {
	var statuses strings.Builder
	for _, r := range results {
		h = h.After(r == pass, s)
		statuses.WriteByte(letters[h.Status])
	}
	return h, statuses.String()
}

// TestChart is the state chart, cell by cell. Each line of want is the status after the result above it.
func TestChart(t *testing.T) {
	inARow := Settings{Fall: 3, Rise: 2}
	tests := []struct {
		cell     string
		settings Settings
		results  string
		want     string
	}{
		{"Unknown, a pass: up", inARow,
			"p",
			"U"},
		{"Unknown, a pass: up, whatever was before", inARow,
			"ffp",
			"??U"},
		{"Unknown, a failure: down at the fall-th", inARow,
			"fff",
			"??D"},
		{"Unknown, a failure: the failures before the first pass do not count on", inARow,
			"ffpffpff",
			"??UUUUUU"},

		{"Up, a pass: forget the count", inARow,
			"pffpffpfff",
			"UUUUUUUUUD"},
		{"Up, a failure: down at the fall-th in a row", inARow,
			"pfff",
			"UUUD"},

		{"Down, a pass: up at the rise-th in a row", inARow,
			"fffpp",
			"??DDU"},
		{"Down, a failure: forget the count", inARow,
			"fffpfpfpp",
			"??DDDDDDU"},
		{"Up again, a failure: it begins from nothing", inARow,
			"pfffppffpfff",
			"UUUDDUUUUUUD"},

		{"Fall 1: the first failure is one too many", Settings{Fall: 1, Rise: 1},
			"f",
			"D"},
		{"Fall 1, rise 1: the latest result is the status", Settings{Fall: 1, Rise: 1},
			"pfpfpff",
			"UDUDUDD"},
		{"Rise 1: one pass will do", Settings{Fall: 3, Rise: 1},
			"fffpfff",
			"??DUUUD"},
		{"Rise 4: not three, and not four with a failure between", Settings{Fall: 1, Rise: 4},
			"fpppfpppp",
			"DDDDDDDDU"},

		{"Every second packet lost, in a row: never down", inARow,
			"pfpfpfpfpfpf",
			"UUUUUUUUUUUU"},
		{"Every second packet lost, in a window: down at the fall-th", Settings{Fall: 3, Window: 6, Rise: 2},
			"pfpfpf",
			"UUUUUD"},
		{"Window: the failures need not be in a row", Settings{Fall: 3, Window: 10, Rise: 2},
			"pfppfppf",
			"UUUUUUUD"},
		{"Window: what has slid out does not count", Settings{Fall: 2, Window: 3, Rise: 2},
			"pfpppfpppfpf",
			"UUUUUUUUUUUD"},
		{"Window: the last place in it counts", Settings{Fall: 2, Window: 3, Rise: 2},
			"pfpf",
			"UUUD"},
		{"Window: the first place out of it does not", Settings{Fall: 2, Window: 3, Rise: 2},
			"pfppf",
			"UUUUU"},
		{"Window as long as fall: in a row", Settings{Fall: 3, Window: 3, Rise: 1},
			"pffpffpfff",
			"UUUUUUUUUD"},
		{"Window, unknown: the failures count in a row, and not after the first pass", Settings{Fall: 3, Window: 10, Rise: 2},
			"ffpfpf",
			"??UUUU"},
		{"Window, down: rise is in a row", Settings{Fall: 2, Window: 10, Rise: 2},
			"pffpfpp",
			"UUDDDDU"},
		{"Window, up again: it begins empty", Settings{Fall: 2, Window: 10, Rise: 1},
			"pffpfpf",
			"UUDUUUD"},
		{"MaxWindow: 64 failures in 64", Settings{Fall: 64, Window: MaxWindow, Rise: 1},
			"p" + strings.Repeat("f", 63) + "pf" + strings.Repeat("f", 63),
			"U" + strings.Repeat("U", 63) + "UU" + strings.Repeat("U", 62) + "D"},
		{"MaxWindow: the 64th place counts", Settings{Fall: 2, Window: MaxWindow, Rise: 1},
			"pf" + strings.Repeat("p", 62) + "f",
			"UU" + strings.Repeat("U", 62) + "D"},
		{"MaxWindow: the 65th does not", Settings{Fall: 2, Window: MaxWindow, Rise: 1},
			"pf" + strings.Repeat("p", 63) + "f",
			"UU" + strings.Repeat("U", 63) + "U"},
		{"The most in a row: 255", Settings{Fall: 255, Rise: 255},
			"p" + strings.Repeat("f", 255) + strings.Repeat("p", 255),
			"U" + strings.Repeat("U", 254) + "D" + strings.Repeat("D", 254) + "U"},
	}
	for _, tc := range tests {
		t.Run(tc.cell, func(t *testing.T) {
			if _, got := follow(History{}, tc.results, &tc.settings); got != tc.want {
				t.Errorf("Fall %d, window %d, rise %d:\nresults %s\nhave    %s\nwant    %s",
					tc.settings.Fall, tc.settings.Window, tc.settings.Rise, tc.results, got, tc.want)
			}
		})
	}
}

// naive decides by looking at everything since the status began, as slowly as the manual words it.
func naive(status Status, since string, s *Settings) Status {
	last := func(n int) string { return since[max(0, len(since)-n):] }
	passes := strings.HasSuffix(since, strings.Repeat("p", s.Rise))
	failures := strings.HasSuffix(since, strings.Repeat("f", s.Fall))
	if status == Up && s.Window > 0 {
		failures = strings.Count(last(s.Window), "f") >= s.Fall
	}
	switch {
	case status == Unknown && last(1) == "p", status == Down && passes:
		return Up
	case status != Down && failures:
		return Down
	}
	return status
}

func TestChartAgainstManual(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		s := Settings{Fall: 1 + random.IntN(6), Rise: 1 + random.IntN(4)}
		if random.IntN(2) == 0 {
			s.Window = s.Fall + random.IntN(8)
		}
		loss := random.IntN(100)
		h, want, since := History{}, Unknown, ""
		for range 300 {
			r := "p"
			if random.IntN(100) < loss {
				r = "f"
			}
			since += r
			h = h.After(r == "p", &s)
			if next := naive(want, since, &s); next != want {
				want, since = next, ""
			}
			if h.Status != want {
				t.Fatalf("Settings %+v, status %v after %q, want %v", s, h.Status, since, want)
			}
		}
	}
}

// What an answer's TTL is made of (design: interval + (fall-1) x recheck and so on), state by state.
func TestSoonest(t *testing.T) {
	row := Settings{Interval: 5 * time.Second, Recheck: time.Second, Fall: 3, Rise: 2}
	window := row
	window.Fall, window.Window = 3, 5
	once := row
	once.Fall, once.Rise = 1, 1
	tests := []struct {
		state    string
		settings Settings
		results  string
		left     int
		settled  bool
		soonest  time.Duration
	}{
		{"unknown", row, "", 3, false, 3 * time.Second},
		{"unknown, one failure", row, "f", 2, false, 2 * time.Second},
		{"unknown, two", row, "ff", 1, false, time.Second},
		{"unknown, fall 1", once, "", 1, false, time.Second},
		{"up and in good standing", row, "p", 3, true, 7 * time.Second},
		{"up, one failure", row, "pf", 2, false, 2 * time.Second},
		{"up, two", row, "pff", 1, false, time.Second},
		{"up, forgiven", row, "pffp", 3, true, 7 * time.Second},
		{"up, fall 1", once, "p", 1, true, 5 * time.Second},
		{"down", row, "fff", 2, true, 6 * time.Second},
		{"down, more failures", row, "fffffff", 2, true, 6 * time.Second},
		{"down, one pass", row, "fffp", 1, false, time.Second},
		{"down, the pass forgotten", row, "fffpf", 2, true, 6 * time.Second},
		{"down, rise 1", once, "f", 1, true, 5 * time.Second},
		{"up again", row, "fffpp", 3, true, 7 * time.Second},
		{"window, nothing in it", window, "pp", 3, true, 7 * time.Second},
		{"window, the last result a failure", window, "pf", 2, false, 2 * time.Second},
		{"window, a failure some time ago", window, "pfp", 2, true, 6 * time.Second},
		{"window, two", window, "pfpfp", 1, true, 5 * time.Second},
		{"window, two and the last a failure", window, "pfpf", 1, false, time.Second},
		{"window, slid out", window, "pfppppp", 3, true, 7 * time.Second},
		{"window, down", window, "pfff", 2, true, 6 * time.Second},
	}
	for _, tc := range tests {
		t.Run(tc.state, func(t *testing.T) {
			h, _ := follow(History{}, tc.results, &tc.settings)
			if left := h.Left(&tc.settings); left != tc.left {
				t.Errorf("After %q it takes %d more results, want %d", tc.results, left, tc.left)
			}
			if settled := h.IsSettled(); settled != tc.settled {
				t.Errorf("After %q settled is %t, want %t", tc.results, settled, tc.settled)
			}
			if soonest := h.EarliestChange(&tc.settings); soonest != tc.soonest {
				t.Errorf("After %q the status could change in %s, want %s", tc.results, soonest, tc.soonest)
			}
		})
	}
}

// left is exact: so many results against the status change it, and one less does not.
func TestLeft(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		s := Settings{Fall: 1 + random.IntN(6), Rise: 1 + random.IntN(4)}
		if random.IntN(2) == 0 {
			// Nothing slides out of this window in the test: left is for the soonest change.
			s.Window = 40
		}
		var results strings.Builder
		for range random.IntN(30) {
			results.WriteByte("pf"[random.IntN(2)])
		}
		h, _ := follow(History{}, results.String(), &s)
		against := "f"
		if h.Status == Down {
			against = "p"
		}
		left := h.Left(&s)
		almost, _ := follow(h, strings.Repeat(against, left-1), &s)
		there, _ := follow(h, strings.Repeat(against, left), &s)
		if left < 1 || almost.Status != h.Status || there.Status == h.Status {
			t.Fatalf("Settings %+v: left is %d after %q, and the status %v, %v, %v", s, left, results.String(), h.Status, almost.Status, there.Status)
		}
	}
}

func TestWhy(t *testing.T) {
	refused := errors.New("connection refused")
	tests := []struct {
		state    State
		settings Settings
		want     string
	}{
		{State{Status: Up}, Settings{Fall: 3, Rise: 2}, "1 pass"},
		{State{Status: Up, Recovered: true, Err: refused}, Settings{Fall: 3, Rise: 2}, "2 passes"},
		{State{Status: Up, Recovered: true, Err: refused}, Settings{Fall: 3, Rise: 1}, "1 pass"},
		{State{Status: Down, Err: refused}, Settings{Fall: 1, Rise: 2}, "1 failure: connection refused"},
		{State{Status: Down, Err: refused}, Settings{Fall: 1, Window: 10, Rise: 2}, "1 failure: connection refused"},
		{State{Status: Down, Err: refused}, Settings{Fall: 3, Rise: 2}, "3 failures: connection refused"},
		{State{Status: Down, Err: refused}, Settings{Fall: 5, Window: 10, Rise: 2}, "5 failures in 10: connection refused"},
	}
	for _, tc := range tests {
		if why := tc.state.Why(&tc.settings); why != tc.want {
			t.Errorf("%+v with %+v: %q, want %q", tc.state, tc.settings, why, tc.want)
		}
	}
	if got := fmt.Sprint(Unknown, Up, Down); got != "unknown up down" {
		t.Errorf("The statuses are %q, want them as they are logged", got)
	}
}
