package share

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/quorum"
)

// What etcd has, below the prefix:
//
//	sites/SITE         beat, the heartbeat of a site
//	votes/SITE/ID      ballot, one vote of it
//	used/              that there has been a site, ever: what it has not is no longer decided
//	overrides/ID       decision
//	letback/ID         letBack
//
// ID is of what the value is about, which is in the value in full.
const (
	inSites     = "sites/"
	inVotes     = "votes/"
	inUse       = "used/"
	inOverrides = "overrides/"
	inLetback   = "letback/"
)

// format is in every value. A value of another format is of a version to come, and is none to this one.
const format = 1

const (
	maxValue = 8 << 10 // bytes; ours are of some hundred
	maxWhy   = 500     // bytes, as for the reason of an override
	maxSites = 99      // as many as a quorum can count
)

// id is what a value is about, in short.
type id [16]byte

func idOf(words ...string) id {
	var b [256]byte
	text := b[:0]
	for _, w := range words {
		text = append(append(text, w...), '\n')
	}
	sum := sha256.Sum256(text)
	return id(sum[:])
}

func keyID(k quorum.Key) id { return idOf(k.Question, k.Target.String()) }

func targetID(t override.Target) id { return idOf(t.Pool, t.Member, strings.ToLower(t.Label)) }

func (i id) String() string { return hex.EncodeToString(i[:]) }

// parseID reads what String has written.
func parseID(word string) (i id, ok bool) {
	if len(word) != 2*len(i) || strings.ToLower(word) != word {
		return i, false
	}
	_, err := hex.Decode(i[:], []byte(word))
	return i, err == nil
}

// beat is the heartbeat of a site. Each transaction about its votes writes it anew, so whoever has the latest beat has
// the votes that go with it.
type beat struct {
	Format   int    `json:"format"`
	Instance string `json:"instance"` // of the process, random
	Counter  uint64 `json:"counter"`  // of beats
	Votes    int    `json:"votes"`    // with fewer of this instance than these, some are still to come
}

func parseBeat(value []byte) (b beat, ok bool) {
	return b, parse(value, &b) && b.Format == format && plain(b.Instance) && b.Votes >= 0
}

// ballot is a vote as etcd has it.
type ballot struct {
	Format   int    `json:"format"`
	Instance string `json:"instance"`
	Question string `json:"question"`
	Target   string `json:"target"`
	Status   string `json:"status"`
	Kept     bool   `json:"kept,omitempty"`
	Why      string `json:"why,omitempty"`

	// Returned is when a kept target came back. It is zero if the writer does not know it, or is of an earlier version.
	Returned time.Time `json:"returned,omitzero"`
}

// said is a vote that has been read.
type said struct {
	key      quorum.Key
	vote     quorum.Vote
	instance string
}

func parseBallot(value []byte, site string, want id) (s said, ok bool) {
	var b ballot
	if !parse(value, &b) || b.Format != format || len(b.Why) > maxWhy {
		return s, false
	}
	s = said{quorum.Key{Question: b.Question}, quorum.Vote{Voter: site, Kept: b.Kept, Why: b.Why}, b.Instance}
	if b.Kept {
		s.vote.Returned = b.Returned
	}
	switch b.Status {
	case health.Up.String():
		s.vote.Status = health.Up
	case health.Down.String():
		s.vote.Status = health.Down
	default:
		return s, false
	}
	var err error
	s.key.Target, err = netip.ParseAddrPort(b.Target)
	return s, err == nil && keyID(s.key) == want
}

func ballotOf(k quorum.Key, v quorum.Vote, instance string) string {
	if len(v.Why) > maxWhy {
		v.Why = strings.ToValidUTF8(v.Why[:maxWhy-utf8.UTFMax], "")
	}
	b := ballot{format, instance, k.Question, k.Target.String(), v.Status.String(), v.Kept, v.Why, time.Time{}}
	if v.Kept {
		b.Returned = v.Returned.UTC()
	}
	return text(b)
}

// decision is an override as etcd has it.
type decision struct {
	Format int `json:"format"`
	override.Override
	Left float64 `json:"left,omitempty"` // seconds, when it was written, until it is over; 0: that is not known, or there is no end
}

func decisionOf(o override.Override, now time.Time) string {
	d := decision{Format: format, Override: o}
	if !o.Until.IsZero() {
		d.Left = max(0, o.Until.Sub(now).Seconds())
	}
	return text(d)
}

func parseDecision(value []byte, want id) (d decision, ok bool) {
	return d, parse(value, &d) && d.Format == format && d.Check() == nil && targetID(d.Target) == want
}

// apart is how far the clocks of two sites are apart that nobody keeps right.
const apart = 2 * time.Second

// heard is the override for one who hears of it as it is written: it ends when so much time has gone by, whatever his
// clock says.
func (d *decision) heard(now time.Time) override.Override {
	o := d.Override
	if d.Left <= 0 || d.Left > math.MaxInt32 {
		return o
	}
	until := now.Add(time.Duration(d.Left * float64(time.Second)))
	if off := until.Sub(o.Until); off.Abs() > apart {
		o.Since, o.Until = o.Since.Add(off), until
	}
	return o
}

// letBack is that somebody has let a member back. It is an event, which Nonce tells from another of the same member.
type letBack struct {
	Format int    `json:"format"`
	Pool   string `json:"pool"`
	Member string `json:"member"`
	Nonce  string `json:"nonce"`
}

func parseLetBack(value []byte, want id) (l letBack, ok bool) {
	return l, parse(value, &l) && l.Format == format && plain(l.Nonce) && idOf(l.Pool, l.Member) == want
}

func parse(value []byte, into any) bool {
	return len(value) <= maxValue && json.Unmarshal(value, into) == nil
}

func text(value any) string {
	b, err := json.Marshal(value)
	if err != nil {
		panic(err) // strings, numbers and times of this century
	}
	return string(b)
}

// plain says whether a name can be one part of a key.
func plain(name string) bool {
	return name != "" && len(name) <= 63 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == ""
}
