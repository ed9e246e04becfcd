package share

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

const (
	// patience is how long etcd may take to say something: longer than it takes to elect a leader.
	patience = 3 * time.Second

	// hurry is how long a transaction may take. One that was on its way to a leader that has died is lost, and etcd does
	// not say so for longer than that: what was not written by then is tried anew.
	hurry = 2 * time.Second

	// silence is how long a watch may be without a word. There are beats every two seconds, ours among them: whoever
	// does not hear these is watching nothing, such as the future of an etcd that was set back.
	silence = 5 * time.Second

	// blink is how long a connection may be without a sign of the other side's TCP, which is asked each second: a path
	// that is cut says nothing, and a vote that waits on it is a vote that nobody has. The election of a leader is no
	// such silence.
	blink = 1500 * time.Millisecond

	// A connection that fails is made anew after retry, and after longer and longer, up to maxRetry: votes are stale
	// soon.
	retry    = 50 * time.Millisecond
	maxRetry = time.Second

	// farewell is how long Close waits for etcd.
	farewell = time.Second

	// pace is the time between two transactions, if the second is not full.
	pace = 50 * time.Millisecond

	// leaseTTL, in seconds, is when the keys of a dead process go. They have long ceased to count.
	leaseTTL = 15

	// letbackTTL, in seconds, is for how long a site that was cut off is still told that a member was let back. After
	// that it has been away for so long that the member may have failed anew.
	letbackTTL = 300

	// page is how many keys are read at a time.
	page = 1000
)

// etcd is what tells one that was set back to an earlier state: what all members agree on only grows.
type etcd struct {
	cluster  uint64 // its own name for itself; 0: it was never seen
	term     uint64 // counts its leaders
	revision int64
}

// seenIn is etcd as one of its members says that it is, having asked the others.
func seenIn(h *etcdserverpb.ResponseHeader) etcd {
	return etcd{h.GetClusterId(), h.GetRaftTerm(), h.GetRevision()}
}

// setBackTo says whether that is of an earlier state.
func (e etcd) setBackTo(is etcd) bool {
	return e.cluster != 0 && (is.cluster != e.cluster || is.term < e.term || is.revision < e.revision)
}

// trouble is what keeps connections from being made, or from lasting.
type trouble struct {
	failures int
	reason   string    // as it was logged last; "": it was not
	said     time.Time // when
}

// connect makes one connection after the other. Each reads the files of the configuration anew, and all that etcd has.
func (s *Share) connect(ctx context.Context) {
	for wait := retry; ; wait = min(2*wait, maxRetry) {
		began := time.Now()
		err := s.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > settling {
			wait = retry
		}
		// The first failure may be no more than a new leader. Another reason is worth a line, though not one a second.
		t := &s.trouble
		why := err.Error()
		if of, ok := status.FromError(err); ok {
			why = of.Message() // without gRPC's frame
		}
		t.failures++
		s.lost(t.failures, why)
		if t.failures > 1 && (t.reason == "" || t.reason != why && time.Since(t.said) > time.Minute) {
			t.reason, t.said = why, time.Now()
			s.log.Warningf("Votes are not shared over etcd: %s", why)
		}
		select {
		case <-time.After(wait + rand.N(wait)): // #nosec G404 -- spreads load
		case <-ctx.Done():
			return
		}
	}
}

// lost notes that a connection could not be made, or has ended: it is one of so many in a row. The first may be no more
// than a new leader of etcd.
func (s *Share) lost(failures int, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Connected = false
	s.stats.Errors++
	if s.lostSince.IsZero() {
		s.lostSince = time.Now()
	}
	if failures > 1 {
		s.stats.Lost = why
	}
}

// steady takes that the connection has lasted for a while.
func (s *Share) steady() {
	if s.trouble.failures == 0 || s.trouble.reason != "" {
		s.log.Infof("Votes are shared over etcd as site %s", s.config.Site)
	}
	s.trouble = trouble{}
}

// session is one connection. It returns why that has ended.
func (s *Share) session(ctx context.Context) error {
	c, err := s.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	defer func() {
		if ctx.Err() != nil {
			s.leave(c)
		}
	}()
	revision, err := s.load(ctx, c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.stats.Connected, s.stats.Lost, s.lostSince = true, "", time.Time{}
	s.mu.Unlock()

	both, cancel := context.WithCancelCause(ctx)
	written := make(chan struct{})
	go func() {
		defer close(written)
		cancel(s.write(both, c))
	}()
	cancel(s.watch(both, c, revision+1))
	<-written
	return context.Cause(both)
}

func (s *Share) client(ctx context.Context) (*clientv3.Client, error) {
	tls, err := s.config.tls()
	if err != nil {
		return nil, err
	}
	password, err := s.config.password()
	if err != nil {
		return nil, err
	}
	return clientv3.New(clientv3.Config{
		Context:         ctx,
		Endpoints:       s.config.Endpoints,
		TLS:             tls,
		Username:        s.config.User,
		Password:        password,
		DialTimeout:     patience,
		MaxUnaryRetries: 2, // the rest is for connect: it reads anew, and knows the reason
		Logger:          zap.NewNop(),

		// The pings are no more than etcd allows. What counts is that gRPC makes their timeout that of TCP.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: blink,
		DialOptions:          []grpc.DialOption{grpc.WithContextDialer(dial), grpc.WithChainUnaryInterceptor(atOnce)},
	})
}

// dial dials so that a path that has died is noticed while nothing is sent.
func dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}}
	return d.DialContext(ctx, "tcp", address)
}

// atOnce has a call fail where there is no connection, with the reason for that. The client's own way is to wait until
// there is one, or the time is over.
func atOnce(ctx context.Context, method string, req, reply any, c *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	return invoke(ctx, method, req, reply, c, append(o, grpc.WaitForReady(false))...)
}

// leave removes our site's keys.
func (s *Share) leave(c *clientv3.Client) {
	s.mu.Lock()
	held := s.roll.held || s.roll.flying != ""
	s.mu.Unlock()
	if !held || s.lease == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	_, _ = c.Revoke(ctx, s.lease) // what cannot be removed is stale soon
}

// load reads all that etcd has, at one revision, which it returns.
func (s *Share) load(ctx context.Context, c *clientv3.Client) (int64, error) {
	var is etcd
	end := clientv3.GetPrefixRangeEnd(s.config.Prefix)
	others, unknown := newTally(), uint64(0)
	beat, votes, used := "", make(map[string]string), false
	overrides, lets := make(map[string][]byte), make(map[string][]byte)
	for from := s.config.Prefix; ; {
		call, cancel := context.WithTimeout(ctx, patience)
		r, err := c.Get(call, from, clientv3.WithRange(end), clientv3.WithRev(is.revision), clientv3.WithLimit(page))
		cancel()
		if err != nil {
			return 0, err
		}
		if is.cluster == 0 {
			is = seenIn(r.Header)
		}
		for _, kv := range r.Kvs {
			switch folder, site, word := s.split(kv.GetKey()); {
			case folder == inSites && site == s.config.Site:
				beat = string(kv.GetValue())
			case folder == inSites:
				others.beats(site, kv.GetValue(), time.Time{})
			case folder == inVotes && site == s.config.Site:
				votes[word] = string(kv.GetValue())
			case folder == inVotes:
				others.says(site, word, kv.GetValue())
			case folder == inOverrides:
				overrides[word] = kv.GetValue()
			case folder == inLetback:
				lets[word] = kv.GetValue()
			case folder == inUse:
				used = true
			default:
				unknown++
			}
		}
		if !r.More || len(r.Kvs) == 0 {
			break
		}
		from = string(r.Kvs[len(r.Kvs)-1].GetKey()) + "\x00"
	}

	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	earlier := s.roll.loaded(beat, votes, is.revision, now)
	setBack := s.etcd.setBackTo(is) || earlier || others.earlier(s.tally)
	if setBack {
		s.log.Warningf("etcd was set back to an earlier state: what this site has said, and what it knows to be decided, is written anew")
	}
	s.etcd = is
	s.stats.Ignored += unknown
	others.eager = !s.settled
	others.follow(s.tally, now, setBack || s.replaces)
	s.tally, s.replaces = others, false
	s.decisions.loaded(overrides, lets, is.revision, setBack, now)
	s.decisions.bring(used, now)
	s.refusal()
	signal(s.told)
	return is.revision, nil
}

// split takes a key apart. Of what is none of ours the folder is empty.
func (s *Share) split(key []byte) (folder, site, word string) {
	rest := strings.TrimPrefix(string(key), s.config.Prefix)
	folder, word, _ = strings.Cut(rest, "/")
	switch folder += "/"; folder {
	case inUse, inOverrides, inLetback:
		return folder, "", word
	case inSites:
		site, word = word, ""
	case inVotes:
		site, word, _ = strings.Cut(word, "/")
	}
	if !plain(site) {
		return "", "", ""
	}
	return folder, site, word
}

// watch follows etcd from a revision on, until that ends.
func (s *Share) watch(ctx context.Context, c *clientv3.Client, revision int64) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	responses := c.Watch(ctx, s.config.Prefix, clientv3.WithPrefix(), clientv3.WithRev(revision), clientv3.WithProgressNotify())
	quiet, steady := time.NewTimer(silence), time.After(settling)
	defer quiet.Stop()
	for {
		select {
		case r, ok := <-responses:
			switch {
			case !ok:
				return errors.New("the watch has ended")
			case r.Err() != nil:
				return r.Err()
			}
			for len(r.Events) > 0 { // one transaction after the other, so that nobody sees half of one
				n := slices.IndexFunc(r.Events, func(e *clientv3.Event) bool {
					return e.GetKv().GetModRevision() != r.Events[0].GetKv().GetModRevision()
				})
				if n < 0 {
					n = len(r.Events)
				}
				s.apply(r.Events[:n])
				r.Events = r.Events[n:]
				quiet.Reset(silence)
			}
			signal(s.told)
		case <-steady:
			s.steady()
		case <-quiet.C:
			return fmt.Errorf("not a word in %s", silence)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// apply takes what one transaction has changed.
func (s *Share) apply(events []*clientv3.Event) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		value := e.GetKv().GetValue()
		if e.GetType() == mvccpb.DELETE {
			value = nil
		} else if value == nil {
			value = []byte{} // an empty value is one, though none of ours
		}
		switch folder, site, word := s.split(e.GetKv().GetKey()); {
		case folder == inSites && site == s.config.Site:
			s.roll.beats(string(value), e.GetKv().GetModRevision(), now)
			s.refusal()
			signal(s.wake)
		case folder == inSites && value == nil:
			s.tally.gone(site)
		case folder == inSites:
			s.tally.beats(site, value, now)
		case folder == inVotes && site == s.config.Site:
			if s.roll.says(word, string(value), e.GetKv().GetModRevision()) {
				signal(s.wake)
			}
		case folder == inVotes:
			s.tally.says(site, word, value)
		case folder == inOverrides:
			s.decisions.decided(word, value, now)
		case folder == inLetback:
			s.decisions.letBack(word, value)
		case folder == inUse: // which is of use to who comes later
		default:
			s.stats.Ignored++
		}
	}
	s.etcd.revision = max(s.etcd.revision, events[0].GetKv().GetModRevision())
	s.decisions.reached(events[0].GetKv().GetModRevision())
}

// refusal sees whether another process has our name.
func (s *Share) refusal() {
	before := s.stats.Refused
	s.stats.Refused = ""
	if !s.roll.held && s.roll.alive {
		s.stats.Refused = fmt.Sprintf("site name %s is used by another process", s.config.Site)
		if before == "" {
			s.refusedSince = time.Now()
		}
	}
	switch {
	case s.stats.Refused == before:
	case before == "":
		s.log.Warningf("The votes of this process are not shared: %s", s.stats.Refused)
	default:
		s.log.Infof("The site name %s is free", s.config.Site)
	}
}

// errOther is that a transaction was not the next.
var errOther = errors.New("the heartbeat of our site is not the one that was written last")

// errSetBack is that etcd knows less than it did.
var errSetBack = errors.New("etcd was set back to an earlier state")

// write writes what is due, until something goes wrong.
func (s *Share) write(ctx context.Context, c *clientv3.Client) error {
	defer func() { s.release() }()
	kept, err := s.keep(ctx, c)
	if err != nil {
		return err
	}
	for next := time.Now(); ; {
		if err := s.writeDecisions(ctx, c); err != nil {
			return err
		}
		now := time.Now()
		s.mu.Lock()
		due := s.roll.due()
		if !s.settled { // the first vote is that of one who knows what the others say
			due = now.Add(pulse)
		}
		s.mu.Unlock()
		if due.Before(next) {
			due = next
		}
		if due.After(now) {
			select {
			case <-time.After(due.Sub(now)):
			case <-s.wake:
			case _, ok := <-kept:
				if !ok {
					kept = nil // the next transaction finds out what that means
				}
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		full, err := s.writeVotes(ctx, c, &kept)
		if err != nil {
			return err
		}
		if next = now.Add(pace); full {
			next = now
		}
	}
}

// keep has the lease kept alive.
func (s *Share) keep(ctx context.Context, c *clientv3.Client) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	s.release()
	if s.lease == 0 {
		return nil, nil
	}
	ctx, s.release = context.WithCancel(ctx)
	return c.KeepAlive(ctx, s.lease)
}

// writeVotes writes one batch, and says whether it was a full one.
func (s *Share) writeVotes(ctx context.Context, c *clientv3.Client, kept *<-chan *clientv3.LeaseKeepAliveResponse) (full bool, err error) {
	s.mu.Lock()
	b, last := s.roll.next(), s.etcd
	s.mu.Unlock()

	call, cancel := context.WithTimeout(ctx, hurry)
	defer cancel()
	if b.sweep { // the lease is as new as the rest
		lease, err := c.Grant(call, leaseTTL)
		if err != nil {
			return false, err
		}
		s.lease = lease.ID
		if *kept, err = s.keep(ctx, c); err != nil {
			return false, err
		}
	}
	at, votes := s.config.Prefix+inSites+s.config.Site, s.config.Prefix+inVotes+s.config.Site+"/"
	puts := []clientv3.Op{clientv3.OpPut(at, b.beat, clientv3.WithLease(s.lease))}
	if b.sweep {
		puts = append(puts, clientv3.OpDelete(votes, clientv3.WithPrefix()), s.use())
	}
	for about, value := range b.puts {
		puts = append(puts, clientv3.OpPut(votes+about.String(), value, clientv3.WithLease(s.lease)))
	}
	for _, about := range b.drops {
		puts = append(puts, clientv3.OpDelete(votes+about.String()))
	}
	before := clientv3.Compare(clientv3.Value(at), "=", b.before)
	if b.before == "" {
		before = clientv3.Compare(clientv3.CreateRevision(at), "=", 0)
	}
	began := time.Now()
	r, err := c.Txn(call).If(before).Then(puts...).Commit()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.roll.lost()
		return !b.sweep, nil
	}
	if err != nil {
		return false, err
	}
	if !r.Succeeded {
		return false, errOther
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.wrote(len(puts), last, r.Header, now.Sub(began)); err != nil {
		return false, err
	}
	s.roll.done(b, r.Header.GetRevision(), now)
	s.refusal()
	return b.sweep || len(puts) == ops, nil
}

// use notes that there is, or was, a site: what etcd has not is no longer decided.
func (s *Share) use() clientv3.Op { return clientv3.OpPut(s.config.Prefix+inUse, text(format)) }

// wrote counts a transaction. last is etcd as it was seen when that began: it is an error that it was set back since, as the
// watch would wait for what is to come.
func (s *Share) wrote(keys int, last etcd, h *etcdserverpb.ResponseHeader, took time.Duration) error {
	is := seenIn(h)
	if last.setBackTo(is) {
		return errSetBack
	}
	s.stats.Batches++
	s.stats.Writes += uint64(keys) // #nosec G115 -- a length
	s.stats.Latency = took
	is.revision = max(s.etcd.revision, is.revision) // the watch may be further
	s.etcd = is
	return nil
}

// writeDecisions writes what operators have decided here.
func (s *Share) writeDecisions(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, hurry)
	defer cancel()
	for {
		s.mu.Lock()
		overrides, lets := s.decisions.next()
		last := s.etcd
		s.mu.Unlock()
		if len(overrides)+len(lets) == 0 {
			return nil
		}
		puts := []clientv3.Op{s.use()}
		for about, w := range overrides {
			key := s.config.Prefix + inOverrides + about.String()
			if w.override == nil {
				puts = append(puts, clientv3.OpDelete(key))
			} else {
				puts = append(puts, clientv3.OpPut(key, decisionOf(*w.override, time.Now())))
			}
		}
		if len(lets) > 0 {
			lease, err := c.Grant(ctx, letbackTTL)
			if err != nil {
				return err
			}
			for about, l := range lets {
				puts = append(puts, clientv3.OpPut(s.config.Prefix+inLetback+about.String(), text(l), clientv3.WithLease(lease.ID)))
			}
		}
		began := time.Now()
		r, err := c.Txn(ctx).Then(puts...).Commit()
		if err != nil {
			return err
		}
		s.mu.Lock()
		if err = s.wrote(len(puts), last, r.Header, time.Since(began)); err == nil {
			s.decisions.done(overrides, lets, r.Header.GetRevision())
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
}
