// Package state reads and writes the file in which a server keeps its statuses and overrides over a restart.
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/override"
)

// Format and Version are at the beginning of each state file. A file with another beginning is not a state file. A file with
// a higher version belongs to a later version of failover. The server writes to neither of them.
const (
	Format  = "failover state"
	Version = 1
)

// maxState is the largest state file that is read, in bytes. A hundred thousand members take a tenth of it.
const maxState = 256 << 20

// Document is the content of a state file.
type Document struct {
	Format    string              `json:"format"`
	Version   int                 `json:"version"`
	Saved     time.Time           `json:"saved"`
	Overrides []override.Override `json:"overrides"`
	Questions []Question          `json:"questions"`
	Pools     []Pool              `json:"pools"`
}

// Question is what is known of the targets of one question.
type Question struct {
	Question string   `json:"question"`
	Targets  []Target `json:"targets"`
}

// Status is the status of a target, as the file has it.
type Status struct {
	Status health.Status
	Since  time.Time
	Back   bool  // it is up, and was down before
	Err    error // the latest failure; nil if there was none
}

type Target struct {
	Target netip.AddrPort `json:"target"`
	Status string         `json:"status"`
	Since  time.Time      `json:"since"`
	Back   bool           `json:"back,omitempty"`
	Error  string         `json:"error,omitempty"`
}

// Pool is what a pool, or an overlay, knows beside that.
type Pool struct {
	ID      string                       `json:"id"`
	Last    []netip.AddrPort             `json:"last,omitempty"`
	Manual  bool                         `json:"manual,omitempty"` // LetBack is all that were
	LetBack map[netip.AddrPort]time.Time `json:"letBack,omitempty"`

	// Recovered has returns of members that the questions do not have; see memberState.recover.
	Recovered map[netip.AddrPort]time.Time `json:"recovered,omitempty"`
	Found     map[netip.Addr]time.Time     `json:"found,omitempty"` // addresses of an overlay, and when they worked last
}

// Restored is the content of a state file that has been read. nil is an empty one.
type Restored struct {
	Overrides []override.Override
	Statuses  map[stateKey]Status
	Pools     map[string]Pool
}

type stateKey struct {
	question string
	target   netip.AddrPort
}

// Status returns the status that a target had. ok is false if the file does not have it, or is too old.
func (k *Restored) Status(question string, target netip.AddrPort) (Status, bool) {
	s, ok := k.Statuses[stateKey{question, target}]
	return s, ok
}

// ErrForeign is the error of a file that is not to be written to.
var ErrForeign = errors.New("is left as it is, and nothing is kept")

// Read reads a state file. No file is no error, and nothing.
func Read(name string, maxAge time.Duration, now time.Time) (*Restored, error) {
	switch info, err := os.Stat(name); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file, so it %w", name, ErrForeign)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil || len(data) == 0 {
		return nil, err
	}
	if !bytes.HasPrefix(data, []byte(`{"format":"`+Format+`"`)) {
		return nil, fmt.Errorf("%s is no state file of failover, so it %w", name, ErrForeign)
	}
	var d Document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("%s is not whole: %w", name, err)
	}
	if d.Version > Version {
		return nil, fmt.Errorf("%s has version %d, and this failover knows %d, so it %w", name, d.Version, Version, ErrForeign)
	}
	k := &Restored{Pools: make(map[string]Pool)}
	for _, o := range d.Overrides {
		if !o.Until.IsZero() && !o.Until.After(now) {
			continue
		}
		if err := o.Check(); err != nil {
			return nil, fmt.Errorf("%s has an override that cannot be: %w", name, err)
		}
		k.Overrides = append(k.Overrides, o)
	}
	for _, p := range d.Pools {
		k.Pools[p.ID] = p
	}
	if age := now.Sub(d.Saved); age > maxAge || age < -maxAge { // or a clock was wrong
		for id, p := range k.Pools {
			p.Recovered = nil
			k.Pools[id] = p
		}
		return k, nil
	}
	k.Statuses = make(map[stateKey]Status)
	for _, q := range d.Questions {
		for _, t := range q.Targets {
			s := Status{Since: t.Since, Back: t.Back, Status: health.Up}
			if t.Status == health.Down.String() {
				s.Status = health.Down
			}
			if t.Error != "" {
				s.Err = errors.New(t.Error)
			}
			k.Statuses[stateKey{q.Question, t.Target}] = s
		}
	}
	return k, nil
}
