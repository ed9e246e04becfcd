package failover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/pool"
)

// stateFormat and stateVersion begin every state file. A file that begins in another way is somebody else's, and one
// with a later version that of a later failover: neither is written to.
const (
	stateFormat  = "failover state"
	stateVersion = 1
)

// maxState is how long a state file can be that is read: a hundred thousand members take a tenth of that.
const maxState = 256 << 20

// stateDocument is what a state file has in it.
type stateDocument struct {
	Format    string              `json:"format"`
	Version   int                 `json:"version"`
	Saved     time.Time           `json:"saved"`
	Overrides []override.Override `json:"overrides"`
	Questions []stateQuestion     `json:"questions"`
	Pools     []statePool         `json:"pools"`
}

// stateQuestion is what is known of the targets of one question.
type stateQuestion struct {
	Question string        `json:"question"`
	Targets  []stateTarget `json:"targets"`
}

type stateTarget struct {
	Target netip.AddrPort `json:"target"`
	Status string         `json:"status"`
	Since  time.Time      `json:"since"`
	Back   bool           `json:"back,omitempty"`
	Error  string         `json:"error,omitempty"`
}

// statePool is what a pool, or an overlay, knows beside that.
type statePool struct {
	ID      string                       `json:"id"`
	Last    []netip.AddrPort             `json:"last,omitempty"`
	Manual  bool                         `json:"manual,omitempty"` // LetBack is all that were
	LetBack map[netip.AddrPort]time.Time `json:"letBack,omitempty"`

	// Recovered has returns of members that the questions do not have; see memberState.recover.
	Recovered map[netip.AddrPort]time.Time `json:"recovered,omitempty"`
	Found     map[netip.Addr]time.Time     `json:"found,omitempty"` // addresses of an overlay, and when they worked last
}

// kept is what was read from a state file. nil is nothing.
type kept struct {
	overrides []override.Override
	statuses  map[stateKey]monitor.Known
	pools     map[string]statePool
}

type stateKey struct {
	question string
	target   netip.AddrPort
}

// known is for [monitor.Monitor.Recall].
func (k *kept) known(question string, target netip.AddrPort) (monitor.Known, bool) {
	s, ok := k.statuses[stateKey{question, target}]
	return s, ok
}

// errForeign is the error of a file that is not to be written to.
var errForeign = errors.New("is left as it is, and nothing is kept")

// readState reads a state file. No file is no error, and nothing.
func readState(name string, maxAge time.Duration, now time.Time) (*kept, error) {
	switch info, err := os.Stat(name); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file, so it %w", name, errForeign)
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
	if !bytes.HasPrefix(data, []byte(`{"format":"`+stateFormat+`"`)) {
		return nil, fmt.Errorf("%s is no state file of failover, so it %w", name, errForeign)
	}
	var d stateDocument
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("%s is not whole: %w", name, err)
	}
	if d.Version > stateVersion {
		return nil, fmt.Errorf("%s has version %d, and this failover knows %d, so it %w", name, d.Version, stateVersion, errForeign)
	}
	k := &kept{pools: make(map[string]statePool)}
	for _, o := range d.Overrides {
		if !o.Until.IsZero() && !o.Until.After(now) {
			continue
		}
		if err := o.Check(); err != nil {
			return nil, fmt.Errorf("%s has an override that cannot be: %w", name, err)
		}
		k.overrides = append(k.overrides, o)
	}
	for _, p := range d.Pools {
		k.pools[p.ID] = p
	}
	if age := now.Sub(d.Saved); age > maxAge || age < -maxAge { // or a clock was wrong
		for id, p := range k.pools {
			p.Recovered = nil
			k.pools[id] = p
		}
		return k, nil
	}
	k.statuses = make(map[stateKey]monitor.Known)
	for _, q := range d.Questions {
		for _, t := range q.Targets {
			s := monitor.Known{Since: t.Since, Back: t.Back, Status: health.Up}
			if t.Status == health.Down.String() {
				s.Status = health.Down
			}
			if t.Error != "" {
				s.Err = errors.New(t.Error)
			}
			k.statuses[stateKey{q.Question, t.Target}] = s
		}
	}
	return k, nil
}

// restore reads the state file of a generation. If there is a generation before it, the process knows what is newer, and
// only a file that is not to be written to counts.
func (g *generation) restore() {
	s := g.state
	if s == nil || g.replaces != nil && process.state.writes(s.file) {
		return
	}
	found, err := readState(s.file, s.maxAge, time.Now())
	if g.replaces == nil {
		g.kept = found
	} else if !errors.Is(err, errForeign) {
		return
	}
	if err != nil {
		log.Warningf("State: %v", err)
	}
	if errors.Is(err, errForeign) {
		process.mu.Lock()
		g.state, g.notKept = nil, "the state is not kept: "+err.Error()
		process.mu.Unlock()
	}
	if g.kept != nil && len(g.kept.statuses) > 0 {
		log.Infof("State: beginning with the statuses of %d targets from %s", len(g.kept.statuses), s.file)
	}
}

// adopt puts the overrides in force that a state file had, unless there are others of the same targets, and returns those
// of the file.
func (r *registry) adopt(k *kept) []override.Override {
	if k == nil || len(k.overrides) == 0 {
		return nil
	}
	r.deciding.Lock()
	defer r.deciding.Unlock()
	before := r.overrides.Load()
	after := new(override.Table).With(append(k.overrides, before.All()...)...)
	for _, o := range k.overrides {
		log.Infof("Override of %s, from the state file: %s", o.Target, &o)
	}
	r.put(after)
	r.redecide(before, after, "an override from the state file")
	adopted := k.overrides
	k.overrides = nil
	return adopted
}

// collect is what there is to keep now.
func (r *registry) collect() *stateDocument {
	d := &stateDocument{Format: stateFormat, Version: stateVersion, Saved: time.Now(), Overrides: r.Overrides()}
	byQuestion := make(map[string]int)
	r.monitorInUse().All(func(question string, target netip.AddrPort, k monitor.Known) {
		i, ok := byQuestion[question]
		if !ok {
			i = len(d.Questions)
			byQuestion[question], d.Questions = i, append(d.Questions, stateQuestion{Question: question})
		}
		t := stateTarget{Target: target, Status: k.Status.String(), Since: k.Since, Back: k.Back}
		if k.Err != nil {
			t.Error = k.Err.Error()
		}
		d.Questions[i].Targets = append(d.Questions[i].Targets, t)
	})
	for _, v := range r.shown().all {
		if p, ok := v.keep(); ok {
			d.Pools = append(d.Pools, p)
		}
	}
	return d
}

// monitorInUse is that of the generation that answers.
func (r *registry) monitorInUse() *monitor.Monitor {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.generations) == 0 {
		return r.monitor
	}
	return r.generations[0].monitor
}

// keep is what has to be known of a pool beside the statuses of its members.
func (p *livePool) keep() (s statePool, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.manual && p.Fallback.Members != pool.Last && (p.more == nil || len(p.more.recovered) == 0) {
		return s, false
	}
	s.ID, s.Manual, s.LetBack = p.id(), p.manual, make(map[netip.AddrPort]time.Time)
	for _, i := range p.last {
		s.Last = append(s.Last, p.dialled(i))
	}
	if p.more != nil {
		for i, at := range p.more.letBack {
			s.LetBack[p.dialled(i)] = at
		}
		if len(p.more.recovered) > 0 {
			s.Recovered = make(map[netip.AddrPort]time.Time)
		}
		for i, at := range p.more.recovered {
			s.Recovered[p.dialled(i)] = at
		}
	}
	return s, true
}

// recall takes over what was kept of the pool.
func (p *livePool) recall(s statePool) {
	for i := range p.Size() {
		target := p.dialled(i)
		if slices.Contains(s.Last, target) {
			p.last = append(p.last, i)
		}
		if at, ok := s.LetBack[target]; ok && p.manual {
			p.let(i, at)
		}
		if at, ok := s.Recovered[target]; ok {
			p.recoveredAt(i, at)
		}
	}
}

func (o *overlay) keep() (s statePool, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.ID, s.Found, s.LetBack = o.id(), make(map[netip.Addr]time.Time), make(map[netip.AddrPort]time.Time)
	for addr, f := range *o.known.Load() {
		s.Found[addr] = f.belief.Load().worked
		if !f.letBack.IsZero() {
			s.LetBack[netip.AddrPortFrom(addr, 0)] = f.letBack
		}
		if f.recovered != nil {
			if s.Recovered == nil {
				s.Recovered = make(map[netip.AddrPort]time.Time)
			}
			s.Recovered[netip.AddrPortFrom(addr, 0)] = *f.recovered
		}
	}
	return s, true
}

// recall takes up the addresses that were kept of the overlay.
func (o *overlay) recall(s statePool) {
	known := make(map[netip.Addr]*found, len(s.Found))
	for addr, worked := range s.Found {
		if len(known) >= o.limit || !addr.IsValid() || addr.Zone() != "" || !o.mayProbe(addr) {
			continue
		}
		f := o.find(addr)
		f.letBack = s.LetBack[netip.AddrPortFrom(addr, 0)]
		if at, ok := s.Recovered[netip.AddrPortFrom(addr, 0)]; ok {
			f.recovered = &at
		}
		o.believe(f)
		f.remember(worked)
		f.status = f.belief.Load().status // what is known from before is no news
		known[addr] = f
	}
	o.known.Store(&known)
}

// keeper writes the state file. The zero value writes none.
type keeper struct {
	mu     sync.Mutex // one use after the other
	place  *statePlace
	writer atomic.Pointer[stateWriter] // nil: there is no place

	foreign atomic.Pointer[stateFailure] // a file that is not to be written to; nil: there is none
}

// stateFailure is why no state is kept although the Corefile asks for it.
type stateFailure struct {
	text  string
	since time.Time
}

// writes reports whether the state is written to a file.
func (k *keeper) writes(file string) bool {
	w := k.writer.Load()
	return w != nil && w.file == file
}

// failure is why the state is not kept as the Corefile says, and since when; "": it is kept, or is not to be.
func (k *keeper) failure() (text string, since time.Time) {
	if w := k.writer.Load(); w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.trouble != "" {
			return fmt.Sprintf("the state file %s cannot be written: %s", w.file, w.trouble), w.since
		}
		return "", time.Time{}
	}
	if f := k.foreign.Load(); f != nil {
		return f.text, f.since
	}
	return "", time.Time{}
}

// confirmation bounds the wait for a write of the state.
const confirmation = 2 * time.Second

// confirm waits until all that is known now is written, and returns why it is not; "": it is, or there is no place.
func (k *keeper) confirm() (failure string) {
	if w := k.writer.Load(); w != nil && !w.confirm(confirmation) {
		return fmt.Sprintf("the state file %s is not written within %s", w.file, confirmation)
	}
	failure, _ = k.failure()
	return failure
}

// use has the state written to another place from now on; nil is nowhere. It writes what there is to the place before,
// first. The text notKept is why there is no place although the Corefile has one; "": it has none.
func (k *keeper) use(place *statePlace, notKept string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if notKept == "" {
		k.foreign.Store(nil)
	} else {
		k.foreign.Store(&stateFailure{notKept, time.Now()})
	}
	if place != nil && k.place != nil && place.file == k.place.file && place.maxAge == k.place.maxAge {
		return
	}
	if w := k.writer.Swap(nil); w != nil {
		w.stop()
	}
	if k.place = place; place != nil {
		k.writer.Store(newStateWriter(place.file, place.maxAge/4, process.collect))
	}
}

// changed notes that there is something new to write. It waits for nothing.
func (k *keeper) changed() {
	if w := k.writer.Load(); w != nil {
		w.poke()
	}
}

// stateWriter writes one file, in a goroutine of its own.
type stateWriter struct {
	file    string
	refresh time.Duration // at the latest, so that its age says when this process was there last
	collect func() *stateDocument

	dirty chan struct{}
	end   chan struct{}
	ended chan struct{}
	lock  *os.File // nil: another process has it

	mu      sync.Mutex    // guards the rest
	trouble string        // as last said in the log
	since   time.Time     // of trouble
	begun   uint64        // counts the writes
	over    chan struct{} // closed when the next write has ended; see confirm
	done    uint64        // counts the writes that have ended
}

func newStateWriter(file string, refresh time.Duration, collect func() *stateDocument) *stateWriter {
	w := &stateWriter{file: file, refresh: refresh, collect: collect,
		dirty: make(chan struct{}, 1), end: make(chan struct{}), ended: make(chan struct{}), over: make(chan struct{})}
	w.poke()
	go w.run()
	return w
}

func (w *stateWriter) poke() {
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

// confirm waits until a write has ended that began after the call, and reports whether it has within a time.
func (w *stateWriter) confirm(within time.Duration) bool {
	w.mu.Lock()
	number := w.begun + 1
	w.mu.Unlock()
	w.poke()
	limit := time.NewTimer(within)
	defer limit.Stop()
	for {
		w.mu.Lock()
		done, over := w.done, w.over
		w.mu.Unlock()
		if done >= number {
			return true
		}
		select {
		case <-over:
		case <-w.ended:
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.done >= number
		case <-limit.C:
			return false
		}
	}
}

// stop writes once more and waits for that.
func (w *stateWriter) stop() {
	close(w.end)
	<-w.ended
}

// writerShare is what part of one processor's time a writer may take where everything changes all the time.
const writerShare = 10

// run writes as soon as there is something new: a process that is killed may be so right after.
func (w *stateWriter) run() {
	defer close(w.ended)
	defer w.unlock()
	defer w.write() // what has not been written yet
	refresh := time.NewTicker(w.refresh)
	defer refresh.Stop()
	for {
		select {
		case <-w.dirty:
		case <-refresh.C:
		case <-w.end:
			return
		}
		rest := time.NewTimer(max(w.write()*(writerShare-1), time.Millisecond))
		select {
		case <-rest.C:
		case <-w.end:
			rest.Stop()
			return
		}
	}
}

// write writes the file, and says so when that begins to fail, and when it works again. It returns how long it has had
// to work for it: to wait for the disk costs nothing.
func (w *stateWriter) write() (work time.Duration) {
	w.mu.Lock()
	w.begun++
	w.mu.Unlock()
	began := time.Now()
	data, err := json.Marshal(w.collect())
	work = time.Since(began)
	if err == nil {
		err = w.put(data)
	}
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	w.mu.Lock()
	before := w.trouble
	if w.trouble = trouble; before == "" {
		w.since = time.Now()
	}
	w.done++
	close(w.over)
	w.over = make(chan struct{})
	w.mu.Unlock()
	if trouble == before {
		return work
	}
	if trouble == "" {
		log.Infof("State: %s is written again", w.file)
	} else {
		log.Warningf("State: %s cannot be written: %s", w.file, trouble)
	}
	return work
}

// put puts a whole new file in the place of the one before.
func (w *stateWriter) put(data []byte) error {
	if w.lock == nil {
		lock, err := lockFile(w.file + ".lock")
		if err != nil {
			return err
		}
		w.lock = lock
	}
	next, err := os.OpenFile(w.file+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = next.Write(data)
	if err := errors.Join(err, next.Sync(), next.Close()); err != nil {
		return err
	}
	return os.Rename(w.file+".new", w.file)
}

// unlock lets another process write the file.
func (w *stateWriter) unlock() {
	if w.lock != nil {
		w.lock.Close()
	}
}
