package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coredns-failover/failover/plugin/share"
	"github.com/coredns-failover/failover/test/sandbox"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// serveEtcd is one member of etcd: its name, its folder, its address and who they all are.
func serveEtcd(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("got %q, want a name, a folder, an address and the cluster", args)
	}
	at := func(port string) []url.URL { return []url.URL{{Scheme: "http", Host: args[2] + ":" + port}} }
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster = args[0], args[1], args[3]
	c.ListenPeerUrls, c.AdvertisePeerUrls = at("2380"), at("2380")
	c.ListenClientUrls, c.AdvertiseClientUrls = at("2379"), at("2379")
	c.LogLevel, c.LogOutputs = "warn", []string{"stderr"}
	e, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	return <-e.Err()
}

func (l *lab) etcdDir(i int) string { return filepath.Join(l.dir, "etcd", names[i]) }
func (l *lab) peer(i int) string    { return "http://" + l.site(i) + ":2380" }

// cluster is who the members are, in etcd's words.
func (l *lab) cluster() string {
	var all []string
	for i, name := range names {
		all = append(all, name+"="+l.peer(i))
	}
	return strings.Join(all, ",")
}

// startEtcd starts all members.
func (l *lab) startEtcd() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	l.ballots.forget()
	for i, name := range names {
		if l.etcd[i], err = sandbox.Start(l.in(name, self, "etcd", name, l.etcdDir(i), l.site(i), l.cluster())); err != nil {
			return err
		}
	}
	return nil
}

// stopEtcd ends all members without a word.
func (l *lab) stopEtcd() {
	for _, p := range l.etcd {
		p.Signal(syscall.SIGKILL)
	}
	for _, p := range l.etcd {
		p.End(time.Second)
	}
}

func (l *lab) snapshot() string { return filepath.Join(l.dir, "snapshot.db") }

// saveEtcd takes a snapshot of one member, as `etcdctl snapshot save` does, and returns the revision that it has.
func (l *lab) saveEtcd() (revision int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	m := snapshot.NewV3(zap.NewNop())
	if _, err := m.Save(ctx, clientv3.Config{Endpoints: l.endpoints()[:1], Logger: zap.NewNop()}, l.snapshot()); err != nil {
		return 0, err
	}
	s, err := m.Status(l.snapshot())
	return s.Revision, err
}

// restoreEtcd makes all members anew from the snapshot while they are stopped, as `etcdutl snapshot restore` does.
// Revisions begin again where they were.
func (l *lab) restoreEtcd() error {
	token := rand.Text() // of each restore its own, as the manual has it: else it is the same cluster
	for i, name := range names {
		if err := os.RemoveAll(l.etcdDir(i)); err != nil {
			return err
		}
		if err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{SnapshotPath: l.snapshot(), Name: name, OutputDataDir: l.etcdDir(i),
			PeerURLs: []string{l.peer(i)}, InitialCluster: l.cluster(), InitialClusterToken: token}); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) endpoints() []string {
	var all []string
	for i := range names {
		all = append(all, "http://"+l.site(i)+":2379")
	}
	return all
}

func client(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
}

// leader is the site whose etcd leads.
func (l *lab) leader() (int, error) {
	c, err := client(l.endpoints()...)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		for i, e := range l.endpoints() {
			if r, err := c.Status(ctx, e); err == nil && r.Leader == r.Header.GetMemberId() {
				return i, nil
			}
		}
	}
	return 0, errors.New("etcd has no leader")
}

// ballots are the votes as etcd has them, followed from outside: at each member, as some may be behind.
type ballots struct {
	mu  sync.Mutex
	now map[string]ballot // "fra 10.99.0.21"
}

type ballot struct {
	status   string
	since    time.Time
	revision int64
}

// follow follows the votes at one member until the context ends.
func (l *lab) follow(ctx context.Context, endpoint string) {
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		// Anew every few seconds, as a client whose server is gone tries again less and less often.
		within, cancel := context.WithTimeout(ctx, 5*time.Second)
		l.followFor(within, endpoint)
		cancel()
	}
}

func (l *lab) followFor(ctx context.Context, endpoint string) {
	c, err := client(endpoint)
	if err != nil {
		return
	}
	defer c.Close()
	prefix := share.DefaultPrefix + "votes/"
	r, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithSerializable())
	if err != nil {
		return
	}
	for _, kv := range r.Kvs {
		l.ballots.take(kv)
	}
	for w := range c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(r.Header.GetRevision()+1)) {
		for _, e := range w.Events {
			l.ballots.take(e.GetKv())
		}
	}
}

// take takes a vote. That one is withdrawn is nothing here: what counts is what was said last.
func (b *ballots) take(kv *mvccpb.KeyValue) {
	site, _, _ := strings.Cut(strings.TrimPrefix(string(kv.GetKey()), share.DefaultPrefix+"votes/"), "/")
	var v struct{ Target, Status string }
	if json.Unmarshal(kv.GetValue(), &v) != nil {
		return
	}
	target, err := netip.ParseAddrPort(v.Target)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	at := site + " " + target.Addr().String()
	before := b.now[at]
	if kv.GetModRevision() <= before.revision {
		return
	}
	since := before.since
	if before.status != v.Status {
		since = time.Now()
	}
	b.now[at] = ballot{v.Status, since, kv.GetModRevision()}
}

// forget takes that revisions may begin anew.
func (b *ballots) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.now)
}

// vote is what a site says of a member, and since when.
func (l *lab) vote(site, member int) (status string, since time.Time) {
	l.ballots.mu.Lock()
	defer l.ballots.mu.Unlock()
	b := l.ballots.now[names[site]+" "+l.member(member)]
	return b.status, b.since
}
