// Package share tells other sites what this one sees of its targets, and what its operators have decided, over etcd; and
// it tells this one what the others say.
//
// Nobody waits for etcd but etcd's own goroutines: what is said is written when it can be, what the others say is in
// memory, and is forgotten when it is no longer fresh. Whoever is alone goes by his own.
package share

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/quorum"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Heard is told what comes from the other sites. Its methods are called one after the other, and not within Open or
// Close. They must not wait for long, and not for Close.
type Heard interface {
	// Voted says that votes about these have come, changed or gone; nil: about anything.
	Voted(keys []quorum.Key)

	// Decided says that there are other overrides than before: once they are known, and whenever they change, by whomever.
	// all are those of all sites at the moment when it is called.
	Decided(all func() []override.Override)

	// LetBack says that somebody at another site has let a member back.
	LetBack(pool, member string)
}

// Past is what was before a Share. The zero value is nothing.
type Past struct {
	Share   *Share              // whose place it takes, and that is closed then; nil: there was none
	Decided []override.Override // in force here, of which no other site knows
	Known   []override.Override // in force here as other sites, or a process before this one, knew them: they may have ended since
}

// Logger is where a Share says what people have to know.
type Logger interface {
	Infof(format string, v ...any)
	Warningf(format string, v ...any)
}

// Site is a voter.
type Site struct {
	Name  string
	Ours  bool
	Fresh bool      // its votes count; of ours: they are known to etcd
	Votes int       // how many it has
	Seen  time.Time // when it was seen alive; zero: never
}

// Stats say how it goes.
type Stats struct {
	Connected bool          // what the others say comes as they say it
	Lost      string        // why there is no connection; "": there is one, or the first attempts go on
	Refused   string        // why our votes are not written although they could be; "": nothing speaks against it
	Since     time.Time     // of Lost, or else of Refused
	Errors    uint64        // connections that have failed or ended
	Ignored   uint64        // keys and values that were none of ours, corrupt or too large
	Writes    uint64        // keys that were written or deleted
	Batches   uint64        // transactions
	Latency   time.Duration // of the last transaction
}

// Share is the connection to the other sites. Its methods may be called by any number of goroutines at once; only Close
// waits for anybody.
type Share struct {
	config Config
	heard  Heard
	log    Logger

	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{} // there is something to write
	told   chan struct{} // there is something to tell

	ready chan struct{} // closed when settled

	mu        sync.RWMutex // guards all of these, and is never held over a call to etcd or to heard
	settled   bool         // what the others say is known, and heard knows it
	replaces  bool         // until etcd has been read once: the tally is that of the one before
	tally     *tally
	roll      *roll
	decisions *decisions
	stats     Stats

	lostSince    time.Time // of the first failure of a connection; zero: there is one
	refusedSince time.Time
	etcd         etcd // as it was last seen

	// These are the connection's alone.
	lease   clientv3.LeaseID // that all keys of our site hang on; 0: none
	release context.CancelFunc
	trouble trouble
}

// Open begins to share. It returns at once, and retries for ever: that etcd is away is no error. The configuration is
// one that Check has found good.
func Open(c Config, past Past, h Heard, log Logger) *Share {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Share{
		heard:     h,
		log:       log,
		cancel:    cancel,
		wake:      make(chan struct{}, 1),
		told:      make(chan struct{}, 1),
		ready:     make(chan struct{}),
		tally:     newTally(),
		roll:      newRoll(rand.Text()),
		decisions: newDecisions(),
		release:   func() {},
	}
	s.config, _ = c.complete() // the error is Check's
	s.follow(past)
	s.wg.Go(func() { s.connect(ctx) })
	s.wg.Go(func() { s.tell(ctx) })
	return s
}

// follow takes over what is known to the one before: until the other sites have been heard it is what they have said.
func (s *Share) follow(past Past) {
	if before := past.Share; before != nil {
		before.cancel() // there is but one who writes as our site
		before.mu.Lock()
		defer before.mu.Unlock()
		s.tally = before.tally.clone(time.Now())
		s.decisions.carry(before.decisions)
		if s.settled = before.settled; s.settled {
			close(s.ready)
		}
		s.replaces = true
	}
	s.decisions.known, s.decisions.brought = past.Known, past.Decided
}

// Ready is closed when it is known what the other sites say, or that there are none. While etcd has never been reached it
// is not.
func (s *Share) Ready() <-chan struct{} { return s.ready }

// Close removes the keys of our site, if that takes no longer than a second, and ends all that Open has begun.
func (s *Share) Close() {
	s.cancel()
	s.wg.Wait()
}

// Site is the name that our votes are under.
func (s *Share) Site() string { return s.config.Site }

// Cast is our vote about a target. The same again costs next to nothing, and its words alone are nothing new. Unknown is
// no vote.
func (s *Share) Cast(k quorum.Key, v quorum.Vote) {
	s.mu.Lock()
	changed := s.roll.cast(k, v)
	s.mu.Unlock()
	if changed {
		signal(s.wake)
	}
}

// Keep is whether somebody here, whoever that is, keeps a target out of the answers as it was down before. It goes with our
// vote.
func (s *Share) Keep(k quorum.Key, by any, kept bool) {
	s.mu.Lock()
	changed := s.roll.keep(k, by, kept)
	s.mu.Unlock()
	if changed {
		signal(s.wake)
	}
}

// Withdraw is that nobody here asks a target any more.
func (s *Share) Withdraw(k quorum.Key) { s.Cast(k, quorum.Vote{}) }

// Votes are the fresh votes of the other sites about a target, by name; nil: there are none.
func (s *Share) Votes(k quorum.Key) []quorum.Vote {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.tally.votes(k, time.Now())
}

// Override decides for all sites. While etcd is away it is for this one alone. Of two who decide at once the later counts.
func (s *Share) Override(o override.Override) { s.decide(o.Target, &o) }

// Clear takes a decision back, at all sites.
func (s *Share) Clear(t override.Target) { s.decide(t, nil) }

// Over takes an override back, at all sites, whose time is over, unless something else has been decided since.
func (s *Share) Over(o override.Override) {
	s.mu.Lock()
	s.decisions.over(o, time.Now())
	s.mu.Unlock()
	signal(s.wake)
	signal(s.told)
}

func (s *Share) decide(t override.Target, o *override.Override) {
	s.mu.Lock()
	s.decisions.put(t, o, time.Now())
	s.mu.Unlock()
	signal(s.wake)
	signal(s.told)
}

// Let lets a member back at all sites; at this one it is for the caller to do that.
func (s *Share) Let(pool, member string) {
	s.mu.Lock()
	s.decisions.let(letBack{format, pool, member, rand.Text()})
	s.mu.Unlock()
	signal(s.wake)
}

// Sites are all that have voted lately, ours before the others, which are in the order of their names.
func (s *Share) Sites() []Site {
	now := time.Now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	ours := Site{
		Name:  s.config.Site,
		Ours:  true,
		Fresh: s.roll.held && now.Sub(s.roll.beaten) < fresh,
		Votes: len(s.roll.votes),
		Seen:  s.roll.beaten,
	}
	return append([]Site{ours}, s.tally.list(now)...)
}

// Stats say how it goes.
func (s *Share) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	stats := s.stats
	switch {
	case stats.Lost != "":
		stats.Since = s.lostSince
	case stats.Refused != "":
		stats.Since = s.refusedSince
	}
	stats.Ignored += s.tally.ignored + s.roll.ignored + s.decisions.ignored
	return stats
}

// maxKeys is how many keys are told one by one.
const maxKeys = 1000

// tell tells what there is to tell.
func (s *Share) tell(ctx context.Context) {
	decided := "" // as told last
	for {
		s.mu.Lock()
		now := time.Now()
		keys, any, next := s.tally.news(now)
		all, changed := s.decisions.news()
		back := s.decisions.back
		s.decisions.back = nil
		settled := s.decisions.joined && !now.Before(s.tally.settled)
		s.mu.Unlock()

		if any && len(keys) > maxKeys {
			keys = nil
		}
		if any {
			s.heard.Voted(keys)
		}
		if changed && text(all) != decided {
			s.heard.Decided(func() []override.Override {
				s.mu.RLock()
				defer s.mu.RUnlock()
				all = s.decisions.all()
				return all
			})
			decided = text(all)
		}
		for _, l := range back {
			s.heard.LetBack(l.Pool, l.Member)
		}
		if settled {
			s.settle()
		}

		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-s.told:
		case <-timer:
		case <-ctx.Done():
			return
		}
	}
}

// settle has our own votes be written, the first time that it is known what the others say.
func (s *Share) settle() {
	s.mu.Lock()
	first := !s.settled
	s.settled = true
	s.mu.Unlock()
	if first {
		close(s.ready)
		signal(s.wake)
	}
}

// signal never waits: one who is to be woken already has not to be woken twice.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
