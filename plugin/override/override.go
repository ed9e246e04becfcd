// Package override holds what operators have decided about members, whatever their probes say.
//
// It is data only: no clock, no socket. A [Table] is never written to once it is made.
package override

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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

// Target is whom an override is for: a member (Member) or all members with a label (Label), wherever they occur, or in the
// pools that have a name (Pool) only.
type Target struct {
	Pool   string `json:"pool,omitempty"`   // fully qualified, in lower case
	Member string `json:"member,omitempty"` // ADDRESS or ADDRESS:PORT; without a port it is the member with any
	Label  string `json:"label,omitempty"`
}

// String is the target in words: "192.0.2.10:443 in www.example.org.".
func (t Target) String() string {
	s := t.Member
	if t.Label != "" {
		s = "label " + t.Label
	}
	if t.Pool != "" {
		s += " in " + t.Pool
	}
	return s
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

// Equal says whether two overrides are the same, though one may have been written down and read again.
func (o *Override) Equal(other *Override) bool {
	a, b := *o, *other
	a.Since, a.Until, b.Since, b.Until = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return a == b && o.Since.Equal(other.Since) && o.Until.Equal(other.Until)
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
	case o.Label != "" && o.Member != "":
		return fmt.Errorf("label %q beside a member, want one of them", o.Label)
	case !o.Until.IsZero() && !o.Until.After(o.Since):
		return fmt.Errorf("until %s, which is over, want a time to come", o.Until.Format(time.RFC3339))
	case o.Until.UTC().Year() > 9999: // JSON has no such time
		return fmt.Errorf("until the year %d, want 9999 at most", o.Until.UTC().Year())
	}
	for _, t := range []struct{ what, text string }{{"reason", o.Reason}, {"author", o.Author}} {
		if len(t.text) > maxText {
			return fmt.Errorf("%s of %d bytes, want %d at most", t.what, len(t.text), maxText)
		}
		if !utf8.ValidString(t.text) {
			return fmt.Errorf("%s %q, want UTF-8", t.what, t.text)
		}
		if i := strings.IndexFunc(t.text, misleads); i >= 0 {
			return fmt.Errorf("%s with a control character at byte %d, want one line of text", t.what, i)
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

// misleads says whether a character makes a line of a log look like something else: it ends the line, or turns the
// direction of what follows.
func misleads(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}

// ParseMember reads ADDRESS or ADDRESS:PORT. The port is 0 where there is none.
func ParseMember(word string) (netip.AddrPort, bool) {
	bare := word
	if inner, ok := strings.CutPrefix(word, "["); ok && strings.HasSuffix(inner, "]") {
		bare = strings.TrimSuffix(inner, "]")
	}
	if a, err := netip.ParseAddr(bare); err == nil {
		return netip.AddrPortFrom(a.Unmap(), 0), a.Zone() == ""
	}
	ap, err := netip.ParseAddrPort(word)
	ok := err == nil && ap.Port() != 0 && ap.Addr().Zone() == "" // port 0 would be the member with any port
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), ok
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
	byTarget map[Target]*Override // by folded targets
}

// folded is a target with its label in lower case.
func (t Target) folded() Target {
	t.Label = strings.ToLower(t.Label)
	return t
}

// Any says whether there is an override at all.
func (t *Table) Any() bool { return t.Len() > 0 }

// Find is the override of a member in a pool with these names, or nil. What is said of one pool outranks what is said of
// all, and a member outranks a label: the narrower decision is the one that somebody has thought about.
func (t *Table) Find(names []string, m pool.Member) *Override {
	if !t.Any() {
		return nil
	}
	addr, label := m.Addr.Unmap(), strings.ToLower(m.Label)
	words := []string{addr.String()}
	if m.Port != 0 {
		words = []string{netip.AddrPortFrom(addr, m.Port).String(), words[0]}
	}
	for _, in := range [][]string{names, {""}} {
		for _, name := range in {
			for _, word := range words {
				if o := t.byTarget[Target{Pool: name, Member: word}]; o != nil {
					return o
				}
			}
		}
		for _, name := range in {
			if o := t.byTarget[Target{Pool: name, Label: label}]; o != nil && label != "" {
				return o
			}
		}
	}
	return nil
}

// Get is the override of a target, or nil.
func (t *Table) Get(target Target) *Override {
	if t == nil {
		return nil
	}
	return t.byTarget[target.folded()]
}

// Len is how many overrides there are.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return len(t.byTarget)
}

// All are the overrides, the oldest first.
func (t *Table) All() []Override {
	all := make([]Override, 0, t.Len())
	if t == nil {
		return all
	}
	for _, o := range t.byTarget {
		all = append(all, *o)
	}
	slices.SortFunc(all, func(a, b Override) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.Target.String(), b.Target.String())
	})
	return all
}

// With is the table with further overrides, each in place of one of the same target.
func (t *Table) With(more ...Override) *Table {
	next := t.copied()
	for i := range more {
		o := more[i]
		next.byTarget[o.folded()] = &o
	}
	return next
}

// Without is the table without the overrides of some targets.
func (t *Table) Without(targets ...Target) *Table {
	next := t.copied()
	for _, target := range targets {
		delete(next.byTarget, target.folded())
	}
	return next
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

// copied is a table with the same overrides, which its maker may write to.
func (t *Table) copied() *Table {
	if t == nil || t.byTarget == nil {
		return &Table{byTarget: make(map[Target]*Override)}
	}
	return &Table{byTarget: maps.Clone(t.byTarget)}
}
