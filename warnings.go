package failover

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coredns-failover/failover/plugin/api"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
)

// Warnings are the failures of the server's own side that last. Each is read from its source, so that none can outlive
// its cause. It implements the [api.Source] interface.
func (r *registry) Warnings() []api.Warning {
	var all []api.Warning
	add := func(kind, text string, since time.Time) {
		if text != "" {
			all = append(all, api.Warning{Kind: kind, Text: text, Since: since})
		}
	}
	text, since := r.state.failure()
	add("state", text, since)
	text, since = r.refusal.current(r.corefile())
	add("reload", text, since)
	text, since = r.sharing.failure()
	add("share", text, since)
	for _, f := range r.updateFailures() {
		add("update", f.text, f.since)
	}
	for _, text := range r.listeners.Failures() {
		add("status", text, time.Time{})
	}
	text, since = lastSkip.failure()
	add("probe", text, since)
	return all
}

// refusal is the latest reload, if CoreDNS refused it. The zero value is none. All methods may be called at once.
type refusal struct {
	mu      sync.Mutex
	ours    error     // by which this plugin has refused the Corefile of the reload that goes on
	reason  string    // of the refused reload; "": the latest reload took place, or there was none
	since   time.Time // of reason
	checked corefileCheck
}

// corefileCheck is what came of the last look at the Corefile.
type corefileCheck struct {
	path     string
	size     int64
	modified time.Time
	err      error
	since    time.Time // of err
}

// begin notes that a Corefile is read which may replace the one in use.
func (r *refusal) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ours = nil
}

// by notes that this plugin has refused a Corefile, and returns the error.
func (r *refusal) by(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ours = err
	return err
}

// end notes that the Corefile in use is the latest.
func (r *refusal) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ours, r.reason, r.since = nil, "", time.Time{}
}

// unknownReason is the reason of a refusal by another plugin, or by a listener. CoreDNS gives it to no plugin.
const unknownReason = `another plugin or a listener refused it, see "Restart failed" in the log`

// refuse notes that CoreDNS refused the Corefile with a path, which is "" for one that is no file. It returns the
// reason: an error of this plugin, or of the syntax, which shows when the file is read again. CoreDNS logs every
// reason, and hands on none.
func (r *refusal) refuse(corefile string) (reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.ours
	if err == nil && corefile != "" {
		err = corefileError(corefile)
	}
	r.reason, r.since = unknownReason, time.Now()
	if err != nil {
		r.reason = err.Error()
	}
	return r.reason
}

// current is the warning of a refused reload, or of a Corefile with an error in its syntax: the reload plugin starts no
// reload with such a file, so no callback comes.
func (r *refusal) current(corefile string) (text string, since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason != "" {
		return "the reload was refused, and the Corefile before is in use: " + r.reason, r.since
	}
	info, err := os.Stat(corefile)
	if err != nil || !info.Mode().IsRegular() {
		return "", time.Time{}
	}
	if c := &r.checked; c.path != corefile || c.size != info.Size() || !c.modified.Equal(info.ModTime()) {
		failed := c.err != nil
		c.path, c.size, c.modified, c.err = corefile, info.Size(), info.ModTime(), corefileError(corefile)
		if !failed {
			c.since = time.Now()
		}
	}
	if r.checked.err == nil {
		return "", time.Time{}
	}
	return "the Corefile cannot be read, and the one before is in use: " + r.checked.err.Error(), r.checked.since
}

// corefileError reports the error in the syntax of a Corefile, as CoreDNS does. It runs no plugin.
func corefileError(path string) error {
	text, err := os.ReadFile(path) // #nosec G304 -- CoreDNS was started with it
	if err != nil {
		return err
	}
	_, err = caddyfile.Parse(path, bytes.NewReader(text), caddy.ValidDirectives("dns"))
	return err
}

// corefile is the path of the Corefile in use; "": it is no file.
func (r *registry) corefile() string {
	r.mu.Lock()
	all := slices.Clone(r.generations)
	r.mu.Unlock()
	for _, g := range all {
		if path := corefilePath(g); path != "" {
			return path
		}
	}
	return ""
}

// corefilePath is the path of the Corefile of the instance that a generation belongs to; "": it is no file.
func corefilePath(g *generation) string {
	i := instanceOf(g)
	if i == nil || i.Caddyfile() == nil {
		return ""
	}
	path := i.Caddyfile().Path()
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return path
}

// ownFailure is a failure of an updater.
type ownFailure struct {
	text  string
	since time.Time
}

// updateFailures are the failures of updates that last, in the order of the zones.
func (r *registry) updateFailures() []ownFailure {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []ownFailure
	for _, g := range r.generations {
		if g.replaces != nil {
			continue
		}
		for u := range g.updaters() {
			if text, since := u.failure(); text != "" {
				all = append(all, ownFailure{fmt.Sprintf("update of %s at %s: %s", u.zone, u.server, text), since})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b ownFailure) int { return strings.Compare(a.text, b.text) })
	return all
}
