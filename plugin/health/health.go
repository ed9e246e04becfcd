// Package health decides the status of one target from the results of its probes.
//
// It is arithmetic: it reads no clock and opens no connection. A caller may use its values from any number of goroutines
// at once, if no goroutine writes to them.
package health

import (
	"fmt"
	"math/bits"
	"time"
)

// Status is what is known of a target.
type Status uint8

const (
	Unknown Status = iota // too few results
	Up
	Down
)

// String is the status as it is logged.
func (s Status) String() string {
	return [...]string{"unknown", "up", "down"}[s]
}

// Settings say how often a target is probed, and how many results change its status: from 1 to 255.
type Settings struct {
	Interval time.Duration // between probes of a target whose last result agrees with its status
	Recheck  time.Duration // between probes while the last result contradicts the status
	Timeout  time.Duration // for one probe; no longer than Interval
	Fall     int           // failures that make it down: in a row, or among the last Window results
	Window   int           // 0, or Fall to MaxWindow
	Rise     int           // passes in a row that make it up again
}

// EarliestChange returns the shortest time, from its latest probe on, in which a target with this status can change it, if
// its last result agrees with the status.
func (s *Settings) EarliestChange(status Status) time.Duration {
	return History{Status: status}.EarliestChange(s)
}

// MaxWindow is the largest number of results that a history holds.
const MaxWindow = 64

// History is a status and the results that contradict it. The zero value has the status Unknown and no results.
type History struct {
	Status Status
	count  uint8  // results in a row against the status
	window uint64 // the last results while up, the latest in bit 0; 1 is a failure
}

// After returns the history after one more result. This is the state chart:
//
//	| status  | a pass                            | a failure                                        |
//	| ------- | --------------------------------- | ------------------------------------------------ |
//	| unknown | up                                | down at the Fall-th                              |
//	| up      | forget the count, slide the window | down at the Fall-th, in a row or in the window   |
//	| down    | up at the Rise-th in a row        | forget the count                                 |
func (h History) After(passed bool, s *Settings) History {
	switch {
	case h.Status == Unknown && passed:
		return History{Status: Up}
	case h.Status == Down && !passed, h.Status == Up && passed:
		h.count = 0
	default:
		h.count++
	}
	if h.Status == Up && s.Window > 0 {
		h.window = h.window << 1 & (1<<s.Window - 1)
		if !passed {
			h.window |= 1
		}
	}
	if h.Left(s) > 0 {
		return h
	}
	if h.Status == Down {
		return History{Status: Up}
	}
	return History{Status: Down}
}

// Left returns how many more results that contradict the status change it.
func (h History) Left(s *Settings) int {
	switch {
	case h.Status == Down:
		return s.Rise - int(h.count)
	case h.Status == Up && s.Window > 0:
		return s.Fall - bits.OnesCount64(h.window)
	}
	return s.Fall - int(h.count)
}

// IsSettled reports whether the last result agrees with the status.
func (h History) IsSettled() bool { return h.Status != Unknown && h.count == 0 }

// State is what is known of a target at one moment, and why.
type State struct {
	Status    Status
	Since     time.Time // when Status began; zero while unknown
	Recovered bool      // it is up, and has been down before
	Err       error     // the latest failure; nil: there was none

	// Said is the reason in words where others have decided, and this monitor has not; "": it has.
	Reason string

	// Returned is the time at which the target came back, as most of several sites have it. It is zero if there is one site.
	Returned time.Time

	// Soonest is how soon the status could change, counted from the latest result. An unknown target
	// could be down so soon.
	EarliestChange time.Duration
}

// EarliestChange returns the shortest time until the status changes. Each result that is still needed comes after Recheck.
// If the last result agrees with the status, the first one comes after Interval.
func (h History) EarliestChange(s *Settings) time.Duration {
	left := h.Left(s)
	if h.IsSettled() {
		return s.Interval + time.Duration(left-1)*s.Recheck
	}
	return time.Duration(left) * s.Recheck
}

// Against returns how many results contradict the status.
func (h History) Against(s *Settings) int {
	if h.Status == Up && s.Window > 0 {
		return bits.OnesCount64(h.window)
	}
	return int(h.count)
}

// Why returns the reason for the status as text: "3 failures: connection refused".
func (s State) Why(settings *Settings) string {
	switch {
	case s.Reason != "":
		return s.Reason
	case s.Status == Unknown:
		return "not asked often enough"
	case s.Status == Down && settings.Fall == 1:
		return fmt.Sprintf("1 failure: %v", s.Err)
	case s.Status == Down && settings.Window > 0:
		return fmt.Sprintf("%d failures in %d: %v", settings.Fall, settings.Window, s.Err)
	case s.Status == Down:
		return fmt.Sprintf("%d failures: %v", settings.Fall, s.Err)
	case s.Recovered && settings.Rise > 1:
		return fmt.Sprintf("%d passes", settings.Rise)
	}
	return "1 pass"
}
