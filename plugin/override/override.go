// Package override holds what operators have decided about members, whatever their probes say.
//
// It is data only: no clock, no socket. A [Table] is never written to once it is made.
package override

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/coredns-failover/failover/plugin/pool"
)

// Action is what is decided about a member.
type Action string

const (
	Drain Action = "drain" // it leaves the answer; its status is what its probes say
	Down  Action = "down"  // it is down
	Up    Action = "up"    // it is up
)

// Actions are all of them.
var Actions = []Action{Drain, Down, Up}

// Target is whom an override is for: a member of one pool (Pool and Member), a member wherever it occurs (Member), or
// all members with a label (Label).
type Target struct {
	Pool   string `json:"pool,omitempty"`   // its first name, fully qualified, in lower case
	Member string `json:"member,omitempty"` // ADDRESS or ADDRESS:PORT; without a port it is the member with any
	Label  string `json:"label,omitempty"`
}

// String is the target in words: "192.0.2.10:443 in www.example.org.".
func (t Target) String() string {
	switch {
	case t.Label != "":
		return "label " + t.Label
	case t.Pool != "":
		return t.Member + " in " + t.Pool
	}
	return t.Member
}

// Override is one decision.
type Override struct {
	Target
	Action Action    `json:"action"`
	Reason string    `json:"reason,omitempty"`
	Author string    `json:"author,omitempty"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero: until it is cleared
}

// String is the override in words, for logs: "drain by alice until 2026-11-24T15:04:05Z: new disks".
func (o *Override) String() string {
	s := string(o.Action)
	if o.Author != "" {
		s += " by " + o.Author
	}
	if !o.Until.IsZero() {
		s += " until " + o.Until.UTC().Format(time.RFC3339)
	}
	if o.Reason != "" {
		s += ": " + o.Reason
	}
	return s
}

// maxText bounds an author and a reason, in bytes: they are shown with each member.
const maxText = 500

// Check says what is wrong with an override that came from outside, and brings its member into the form in which it is
// found.
func (o *Override) Check() error {
	switch {
	case !slices.Contains(Actions, o.Action):
		return fmt.Errorf("action %q, want drain, down or up", o.Action)
	case o.Label == "" && o.Member == "":
		return errors.New("no member and no label, want one of them")
	case o.Label != "" && (o.Member != "" || o.Pool != ""):
		return fmt.Errorf("label %q beside a member or a pool, want one of them", o.Label)
	case !o.Until.IsZero() && !o.Until.After(o.Since):
		return fmt.Errorf("until %s, which is over, want a time to come", o.Until.Format(time.RFC3339))
	}
	for what, text := range map[string]string{"reason": o.Reason, "author": o.Author} {
		if len(text) > maxText {
			return fmt.Errorf("%s of %d bytes, want %d at most", what, len(text), maxText)
		}
		if i := strings.IndexFunc(text, unicode.IsControl); i >= 0 {
			return fmt.Errorf("%s with a control character at byte %d, want one line of text", what, i)
		}
	}
	if o.Member != "" {
		m, ok := ParseMember(o.Member)
		if !ok {
			return fmt.Errorf("member %q, want an address such as 192.0.2.10 or 192.0.2.10:443", o.Member)
		}
		o.Member = text(m)
	}
	return nil
}

// ParseMember reads ADDRESS or ADDRESS:PORT. The port is 0 where there is none.
func ParseMember(word string) (netip.AddrPort, bool) {
	if a, err := netip.ParseAddr(strings.Trim(word, "[]")); err == nil {
		return netip.AddrPortFrom(a.Unmap(), 0), true
	}
	ap, err := netip.ParseAddrPort(word)
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), err == nil
}

// text is a member as targets have it.
func text(m netip.AddrPort) string {
	if m.Port() == 0 {
		return m.Addr().String()
	}
	return m.String()
}

// Table is all overrides that are in force. The zero value, and nil, has none.
type Table struct {
	byTarget map[Target]*Override
	labels   map[string]*Override // by the label in lower case
}

// Any says whether there is an override at all.
func (t *Table) Any() bool { return t != nil && len(t.byTarget) > 0 }

// Find is the override of a member in a pool, or nil. That of a member in one pool outranks that of the member, and
// this that of its label: the narrower decision is the one that somebody has thought about.
func (t *Table) Find(inPool string, m pool.Member) *Override {
	if !t.Any() {
		return nil
	}
	addr := m.Addr.String()
	words := []string{addr}
	if m.Port != 0 {
		words = []string{netip.AddrPortFrom(m.Addr, m.Port).String(), addr}
	}
	for _, in := range []string{inPool, ""} {
		for _, word := range words {
			if o := t.byTarget[Target{Pool: in, Member: word}]; o != nil {
				return o
			}
		}
	}
	if m.Label == "" {
		return nil
	}
	return t.labels[strings.ToLower(m.Label)]
}

// Get is the override of a target, or nil.
func (t *Table) Get(target Target) *Override {
	if t == nil {
		return nil
	}
	if target.Label != "" {
		return t.labels[strings.ToLower(target.Label)]
	}
	return t.byTarget[target]
}

// All are the overrides, the oldest first.
func (t *Table) All() []Override {
	if t == nil {
		return nil
	}
	all := make([]Override, 0, len(t.byTarget))
	for _, o := range t.byTarget {
		all = append(all, *o)
	}
	slices.SortFunc(all, func(a, b Override) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Target.String(), b.Target.String()))
	})
	return all
}

// With is the table with further overrides, each in place of one of the same target.
func (t *Table) With(more ...Override) *Table {
	return made(append(t.All(), more...))
}

// Without is the table without the override of a target.
func (t *Table) Without(target Target) *Table {
	gone := t.Get(target)
	return made(slices.DeleteFunc(t.All(), func(o Override) bool { return gone != nil && o.Target == gone.Target }))
}

// Expired are the overrides that are over at a time, and next is when the first of the others will be; zero: never.
func (t *Table) Expired(now time.Time) (over []Override, next time.Time) {
	for _, o := range t.All() {
		switch {
		case o.Until.IsZero():
		case !o.Until.After(now):
			over = append(over, o)
		case next.IsZero() || o.Until.Before(next):
			next = o.Until
		}
	}
	return over, next
}

// made makes a table. Of several with the same target the last is in it.
func made(all []Override) *Table {
	t := &Table{byTarget: make(map[Target]*Override, len(all)), labels: make(map[string]*Override)}
	for i := range all {
		o := &all[i]
		if before := t.Get(o.Target); before != nil {
			delete(t.byTarget, before.Target)
		}
		t.byTarget[o.Target] = o
		if o.Label != "" {
			t.labels[strings.ToLower(o.Label)] = o
		}
	}
	return t
}
