package monitor

import (
	"fmt"
	"math/bits"
	"time"
)

// Status is what is believed of a target.
type Status uint8

const (
	Unknown Status = iota // not asked often enough to tell
	Up
	Down
)

// String is the status as it is logged.
func (s Status) String() string {
	return [...]string{"unknown", "up", "down"}[s]
}

// Settings say how often a target is asked and how many results it takes to change its status: from
// 1 to 255.
type Settings struct {
	Interval time.Duration // between probes of a target that is surely up or surely down
	Recheck  time.Duration // between probes while the last result disagrees with the status
	Timeout  time.Duration // for one probe; no longer than Interval
	Fall     int           // failures that make it down: in a row, or among the last Window results
	Window   int           // 0, or Fall to MaxWindow
	Rise     int           // passes in a row that make it up again
}

// Soonest is the least time, from its latest probe on, in which a target that is surely up or surely down can change.
func (s *Settings) Soonest(status Status) time.Duration { return history{status: status}.soonest(s) }

// MaxWindow is how many results a history can hold.
const MaxWindow = 64

// history is a status and the results that speak against it. The zero value knows nothing.
type history struct {
	status Status
	count  uint8  // results in a row against the status
	window uint64 // the last results while up, the latest in bit 0; 1 is a failure
}

// after is the state chart:
//
//	| status  | a pass                            | a failure                                        |
//	| ------- | --------------------------------- | ------------------------------------------------ |
//	| unknown | up                                | down at the Fall-th                              |
//	| up      | forget the count, slide the window | down at the Fall-th, in a row or in the window   |
//	| down    | up at the Rise-th in a row        | forget the count                                 |
func (h history) after(passed bool, s *Settings) history {
	switch {
	case h.status == Unknown && passed:
		return history{status: Up}
	case h.status == Down && !passed, h.status == Up && passed:
		h.count = 0
	default:
		h.count++
	}
	if h.status == Up && s.Window > 0 {
		h.window = h.window << 1 & (1<<s.Window - 1)
		if !passed {
			h.window |= 1
		}
	}
	if h.left(s) > 0 {
		return h
	}
	if h.status == Down {
		return history{status: Up}
	}
	return history{status: Down}
}

// left is how many more results against the status change it.
func (h history) left(s *Settings) int {
	switch {
	case h.status == Down:
		return s.Rise - int(h.count)
	case h.status == Up && s.Window > 0:
		return s.Fall - bits.OnesCount64(h.window)
	}
	return s.Fall - int(h.count)
}

// settled says whether the last result agrees with the status.
func (h history) settled() bool { return h.status != Unknown && h.count == 0 }

// State is what is believed of a target at one moment, and why.
type State struct {
	Status Status
	Since  time.Time // when Status began; zero while unknown
	Back   bool      // it is up, and has been down before
	Err    error     // the latest failure; nil: there was none

	// Said is the reason in words where others have decided, and this monitor has not; "": it has.
	Said string

	// Returned is the time at which the target came back, as most of several sites have it. It is zero if there is one site.
	Returned time.Time

	// Soonest is how soon the status could change, counted from the latest result. An unknown target
	// could be down so soon.
	Soonest time.Duration
}

// soonest is the time it takes at least until the status changes. Every result that is still needed
// comes after Recheck, except that a settled target is left alone for Interval first.
func (h history) soonest(s *Settings) time.Duration {
	left := h.left(s)
	if h.settled() {
		return s.Interval + time.Duration(left-1)*s.Recheck
	}
	return time.Duration(left) * s.Recheck
}

// against is how many results speak against the status.
func (h history) against(s *Settings) int {
	if h.status == Up && s.Window > 0 {
		return bits.OnesCount64(h.window)
	}
	return int(h.count)
}

// Why is the reason for the status in words: "3 failures: connection refused".
func (s State) Why(settings *Settings) string {
	switch {
	case s.Said != "":
		return s.Said
	case s.Status == Unknown:
		return "not asked often enough"
	case s.Status == Down && settings.Fall == 1:
		return fmt.Sprintf("1 failure: %v", s.Err)
	case s.Status == Down && settings.Window > 0:
		return fmt.Sprintf("%d failures in %d: %v", settings.Fall, settings.Window, s.Err)
	case s.Status == Down:
		return fmt.Sprintf("%d failures: %v", settings.Fall, s.Err)
	case s.Back && settings.Rise > 1:
		return fmt.Sprintf("%d passes", settings.Rise)
	}
	return "1 pass"
}
