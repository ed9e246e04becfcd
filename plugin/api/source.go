package api

import (
	"errors"
	"iter"
	"net/http"
	"strings"

	"github.com/coredns-failover/failover/plugin/override"
)

// Source is where a server gets what it shows, and what it hands an operator's decisions to. Its methods may be called
// at once by any number of goroutines.
type Source interface {
	// Pools are the pools that a question is about, by name, each made when it is its turn; and how many of these there
	// are in all.
	Pools(q Query) (pools iter.Seq[Pool], total int)
	// PoolsOf are the pools that answer for a name; none: nobody does.
	PoolsOf(name string) []Pool
	// PoolByID is the pool with an ID, which may be gone.
	PoolByID(id string) (p Pool, ok bool)
	// Summary counts all pools.
	Summary() Summary
	// Process is what there is to say of the name server but for Changes.
	Process() Process
	// Warnings are the failures of the server itself that last.
	Warnings() []Warning

	// Refused is told of a request for a change that is not allowed. It must not wait.
	Refused(r Refusal)

	// Overrides are those in force, the oldest first.
	Overrides() []override.Override
	// Override puts one in force. The error is ErrNotFound, ErrInvalid, or ErrBare with an outcome of what was not done.
	Override(o override.Override, how How) (Outcome, error)
	// Clear ends that of a target, and lets members back that wait for it. The errors are those of Override.
	Clear(t override.Target, by By, how How) (Outcome, error)
}

// Query is which pools somebody wants to see.
type Query struct {
	Text   string // in a name, a label or an address; "": any
	Unwell bool   // with something out of the ordinary only
	Limit  int    // so many at most
	Offset int    // without the first so many
}

// How is how a decision is to be taken.
type How struct {
	DryRun bool // only say what would be
	Force  bool // even if a pool is left without a usable tier

	// Limit and Offset say which of the effects are listed. A limit of 0 lists all of them.
	Limit, Offset int
}

// By is who takes a decision, and why.
type By struct{ Author, Reason string }

// String is it as it stands behind a decision: " by alice: new disks".
func (b By) String() string {
	var s strings.Builder
	if b.Author != "" {
		s.WriteString(" by " + b.Author)
	}
	if b.Reason != "" {
		s.WriteString(": " + b.Reason)
	}
	return s.String()
}

// Refusal is a request for a change that is not allowed.
type Refusal struct {
	Reason  string // one of Refusals
	Client  string // its address; on a unix socket "@"
	Request string // method and path
}

// Refusals are the reasons of refusals.
var Refusals = []string{"read-only", "token-file", "no-token", "wrong-token", "foreign-host", "foreign-origin"}

// refused tells the source of a request for a change that is not allowed.
func (s *Server) refused(r *http.Request, reason string) {
	s.source.Refused(Refusal{Reason: reason, Client: r.RemoteAddr, Request: r.Method + " " + r.URL.EscapedPath()})
}

// These are in the errors of a Source.
var (
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("invalid")
	ErrBare     = errors.New("a pool would be left without a usable tier")
)
