package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/quorum"
	"github.com/coredns-failover/failover/plugin/share"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// liar is a site that votes what it likes. It hears nothing, and keeps what is logged to itself.
type liar struct {
	*share.Share
	keys []quorum.Key
}

func (l *lab) liar(site string, keys []quorum.Key) liar {
	return liar{share.Open(share.Config{Endpoints: l.endpoints(), Site: site}, share.Past{}, deaf{}, deaf{}), keys}
}

type deaf struct{}

func (deaf) Voted([]quorum.Key)                 {}
func (deaf) Decided(func() []override.Override) {}
func (deaf) LetBack(string, string)             {}
func (deaf) Infof(string, ...any)               {}
func (deaf) Warningf(string, ...any)            {}

// says has it say the same of all members.
func (s liar) says(status health.Status) {
	for _, k := range s.keys {
		s.Cast(k, quorum.Vote{Status: status, Why: "a lie"})
	}
}

// lies has a fourth site, and a second one of the name of the first, have all members down.
func lies(l *lab, r *report) error {
	r.everybody("1 2")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client(l.endpoints()...)
	if err != nil {
		return err
	}
	defer c.Close()
	keys, err := questions(ctx, c)
	if err != nil {
		return err
	}
	stranger, impostor := l.liar("liar", keys), l.liar(names[0], keys)
	defer stranger.Close()
	defer impostor.Close()
	stranger.says(health.Down)
	impostor.says(health.Down)
	if _, err := await(10*time.Second, "the votes of the liar count", func() bool {
		text := l.metrics(0)
		return strings.Contains(text, `site_fresh{site="liar"} 1`) && strings.Contains(text, fmt.Sprintf(`site_votes{site="liar"} %d`, members))
	}); err != nil {
		return err
	}
	if _, err := await(5*time.Second, "a second fra is refused", func() bool { return impostor.Stats().Refused != "" }); err != nil {
		return err
	}
	time.Sleep(time.Second)
	for n := range 60 {
		stranger.says([]health.Status{health.Up, health.Down}[n%2])
		if err := litter(ctx, c, n); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	for line := range strings.SplitSeq(l.metrics(0), "\n") {
		if n, ok := strings.CutPrefix(line, "coredns_failover_share_ignored_total "); ok {
			r.note("one of four that has all down, and changes its mind 20 times a second, changes nothing; %s keys are ignored as junk", n)
		}
	}
	r.note("a second fra is refused")
	return sweep(ctx, c)
}

// questions are what the first site votes on.
func questions(ctx context.Context, c *clientv3.Client) ([]quorum.Key, error) {
	answer, err := c.Get(ctx, share.DefaultPrefix+"votes/"+names[0]+"/", clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	var keys []quorum.Key
	for _, kv := range answer.Kvs {
		var v struct{ Question, Target string }
		if err := json.Unmarshal(kv.GetValue(), &v); err != nil {
			return nil, err
		}
		target, err := netip.ParseAddrPort(v.Target)
		if err != nil {
			return nil, err
		}
		keys = append(keys, quorum.Key{Question: v.Question, Target: target})
	}
	if len(keys) != members {
		return nil, fmt.Errorf("%s votes on %d members, want %d", names[0], len(keys), members)
	}
	return keys, nil
}

// folders are where litter is put.
var folders = []string{"votes/liar/", "votes/nrt/", "sites/liar/", "overrides/", "letback/", ""}

// litter puts into etcd what means nothing. n tells it apart from what it has put there before.
func litter(ctx context.Context, c *clientv3.Client, n int) error {
	for _, folder := range folders {
		if _, err := c.Put(ctx, fmt.Sprint(share.DefaultPrefix, folder, "junk", n), "junk"); err != nil {
			return err
		}
	}
	return nil
}

// sweep takes all of it away.
func sweep(ctx context.Context, c *clientv3.Client) error {
	for _, folder := range folders {
		if _, err := c.Delete(ctx, share.DefaultPrefix+folder+"junk", clientv3.WithPrefix()); err != nil {
			return err
		}
	}
	return nil
}
