package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/coredns-failover/failover/plugin/share"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// fault is something that happens to a lab in which all is well, and is over when make returns.
type fault struct {
	name string
	make func(l *lab, r *report) error
}

// report is what was seen of a fault.
type report struct {
	courses [sites]string // that the answers have to take
	notes   []string
}

func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// everybody takes this course.
func (r *report) everybody(course string) { r.courses = [sites]string{course, course, course} }

// lane is faults that are made one after the other, in a lab that no other lane has.
type lane struct {
	clocks clocks
	faults []fault
}

// lanes are all faults, in lanes that take about as long.
func lanes(gone time.Duration) []lane {
	return []lane{{faults: []fault{
		{"a member is dead for one site", deadForOne},
		{"a member is dead for two sites", deadForTwo},
		{"a site sees nobody", blind},
		{"a site is killed", killed},
		{"a site lies", lies},
		{"etcd is compacted", compacted},
		{"etcd is set back", setBack(true)},
		{"etcd is lost", wiped},
		{"etcd is set back between two heartbeats", setBack(false)},
	}}, {faults: []fault{
		{"a follower is cut off", cutOff(both, false)},
		{"the leader is cut off", cutOff(both, true)},
		{"a follower is not heard", cutOff(out, false)},
	}}, {faults: []fault{
		{"etcd is gone", etcdGone(gone)},
		{"a site is killed while a member is held", held},
	}}, {clocks: clocks{time.Hour, 0, -time.Hour}, faults: []fault{
		{"clocks an hour apart: a member is dead for two sites", deadForTwo},
		{"clocks an hour apart: a site is killed", killed},
		{"clocks an hour apart: a member is drained", drained},
		{"clocks an hour apart: the leader hears nobody", cutOff(in, true)},
		{"clocks an hour apart: a member is drained for some seconds", drainedFor},
	}}}
}

var printing sync.Mutex

// suffer makes a fault, and says what was seen, and whether all was as it should be.
func (l *lab) suffer(f fault) bool {
	r := new(report)
	for i := range l.replicas {
		l.replicas[i].restart()
	}
	begin := time.Now()
	err := f.make(l, r)
	if err == nil { // whatever is still to flap
		time.Sleep(time.Second)
	}
	var wrong []string
	if err != nil {
		wrong = append(wrong, err.Error())
	}
	asked, slowest := 0, time.Duration(0)
	for i := range l.replicas {
		s := &l.replicas[i]
		for _, what := range s.wrong(r.courses[i]) {
			wrong = append(wrong, names[i]+" "+what)
		}
		s.mu.Lock()
		asked, slowest = asked+s.asked, max(slowest, s.slowest)
		s.mu.Unlock()
	}
	printing.Lock()
	defer printing.Unlock()
	fmt.Printf("%s, %.0f s, %d queries, the slowest %s\n", f.name, time.Since(begin).Seconds(), asked, slowest.Round(100*time.Microsecond))
	for _, note := range r.notes {
		fmt.Println("    " + note)
	}
	for _, w := range wrong {
		fmt.Println("  ! " + w)
	}
	return len(wrong) == 0
}

// await waits until something is so, and says how long it took.
func await(within time.Duration, what string, is func() bool) (time.Duration, error) {
	begin := time.Now()
	for !is() {
		if time.Since(begin) > within {
			return 0, fmt.Errorf("not within %s: %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(begin), nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// sees waits until a site says something of a member.
func (l *lab) sees(site, member int, status string) error {
	_, err := await(8*time.Second, fmt.Sprintf("%s says that member %d is %s", names[site], member+1, status), func() bool {
		got, _ := l.vote(site, member)
		return got == status
	})
	return err
}

// lose has a member be dead for a site, and waits until the site says so.
func (l *lab) lose(site, member int) error {
	if err := l.cut(site, both, l.member(member)); err != nil {
		return err
	}
	return l.sees(site, member, "down")
}

// find ends that.
func (l *lab) find(site, member int) error {
	if err := l.heal(site, l.member(member)); err != nil {
		return err
	}
	return l.sees(site, member, "up")
}

// prompt is how long it may take from the deciding vote until all who are in touch answer accordingly. While etcd elects
// a leader a site may know its own vote for longer before the others can.
const (
	prompt   = 2 * time.Second
	election = 2 * time.Second
)

// extent is from the first of n times to the last.
type extent struct {
	first, last time.Time
	n           int
}

// add adds a time, if there is one.
func (e *extent) add(at time.Time, ok bool) {
	if !ok {
		return
	}
	if e.n == 0 || at.Before(e.first) {
		e.first = at
	}
	if e.n == 0 || at.After(e.last) {
		e.last = at
	}
	e.n++
}

func (e *extent) length() time.Duration { return e.last.Sub(e.first) }

// agree waits until sites that are in touch have gone over to an answer, and compares that with the vote that decided
// it, which decided tells the time of.
func (l *lab) agree(r *report, what, answer string, after time.Time, decided func() time.Time, who ...int) error {
	var changed extent
	if _, err := await(10*time.Second, fmt.Sprintf("%v answer %s", who, answer), func() bool {
		changed = extent{}
		for _, i := range who {
			changed.add(l.replicas[i].since(answer, after))
		}
		return changed.n == len(who)
	}); err != nil {
		return err
	}
	time.Sleep(50 * time.Millisecond) // the vote may have been faster at the sites than here
	r.note("%s: %d sites change within %s of one another, the last %s after the deciding vote, %s after the fault", what, len(who),
		seconds(changed.length()), seconds(changed.last.Sub(decided())), seconds(changed.last.Sub(after)))
	if changed.last.Sub(decided()) > prompt || changed.length() > prompt+election {
		return fmt.Errorf("%s: that took too long", what)
	}
	return nil
}

// decider is the time of the last, or the first, of the votes that say something of a member, among those of some sites.
func (l *lab) decider(last bool, member int, status string, some ...int) func() time.Time {
	return func() (at time.Time) {
		for _, i := range some {
			said, since := l.vote(i, member)
			if said == status && (at.IsZero() || since.After(at) == last) {
				at = since
			}
		}
		return at
	}
}

func deadForOne(l *lab, r *report) error {
	r.everybody("1 2")
	begin := time.Now()
	if err := l.lose(0, 0); err != nil {
		return err
	}
	r.note("fra has it down after %s; no answer changes anywhere", seconds(time.Since(begin)))
	time.Sleep(2 * time.Second)
	return l.find(0, 0)
}

func deadForTwo(l *lab, r *report) error {
	r.everybody("1 2, 2, 1 2")
	begin := time.Now()
	for i := range 2 {
		if err := l.cut(i, both, l.member(0)); err != nil {
			return err
		}
		time.Sleep(300 * time.Millisecond)
	}
	if err := l.agree(r, "down", "2", begin, l.decider(true, 0, "down", 0, 1), 0, 1, 2); err != nil {
		return err
	}
	time.Sleep(time.Second)
	begin = time.Now()
	if err := l.heal(0, l.member(0)); err != nil {
		return err
	}
	if err := l.agree(r, "up", "1 2", begin, l.decider(false, 0, "up", 0, 1), 0, 1, 2); err != nil {
		return err
	}
	return l.find(1, 0)
}

func blind(l *lab, r *report) error {
	r.everybody("1 2")
	if err := l.cut(2, both, l.everyMember()...); err != nil {
		return err
	}
	for m := range members {
		if err := l.sees(2, m, "down"); err != nil {
			return err
		}
	}
	time.Sleep(time.Second)
	if err := l.heal(2, l.everyMember()...); err != nil {
		return err
	}
	r.note("nrt has all down, and answers as the others do")
	for m := range members {
		if err := l.sees(2, m, "up"); err != nil {
			return err
		}
	}
	return nil
}

func killed(l *lab, r *report) error {
	r.everybody("1 2")
	l.kill(2)
	time.Sleep(time.Second)
	begin := time.Now()
	if err := l.serve(2); err != nil {
		return err
	}
	r.note("nrt answers %s after its start", seconds(time.Since(begin)))
	if _, err := await(5*time.Second, "nrt counts the others", func() bool { return l.inTouch(0, 1) && strings.Contains(l.metrics(2), `site_fresh{site="fra"} 1`) }); err != nil {
		return err
	}
	r.note("it counts the votes of the others after %s", seconds(time.Since(begin)))
	if _, err := await(20*time.Second, "nrt votes again", func() bool { return l.inTouch() }); err != nil {
		return err
	}
	r.note("and they its votes after %s", seconds(time.Since(begin)))
	return nil
}

func etcdGone(gone time.Duration) func(l *lab, r *report) error {
	return func(l *lab, r *report) error {
		r.everybody("1 2")
		r.courses[0] = "1 2, 2, 1 2"
		if err := l.lose(0, 0); err != nil {
			return err
		}
		begin := time.Now()
		l.stopEtcd()
		if _, err := await(20*time.Second, "fra goes by its own eyes", func() bool { return l.replicas[0].answer().answer == "2" }); err != nil {
			return err
		}
		r.note("each goes by its own eyes after %s", seconds(time.Since(begin)))
		time.Sleep(time.Until(begin.Add(gone)))
		r.note("gone for %s", seconds(time.Since(begin)))
		begin = time.Now()
		if err := l.startEtcd(); err != nil {
			return err
		}
		if _, err := l.leader(); err != nil {
			return err
		}
		led := time.Since(begin)
		if _, err := await(30*time.Second, "fra goes by the others again", func() bool { return l.replicas[0].answer().answer == "1 2" }); err != nil {
			return err
		}
		r.note("etcd has a leader %s after its start, and fra goes by the others again after %s", seconds(led), seconds(time.Since(begin)))
		if _, err := await(30*time.Second, "all are in touch", func() bool { return l.inTouch() }); err != nil {
			return err
		}
		time.Sleep(2 * time.Second)
		return l.find(0, 0)
	}
}

func compacted(l *lab, r *report) error {
	r.everybody("1 2")
	leader, err := l.leader()
	if err != nil {
		return err
	}
	site := (leader + 1) % sites
	if err := l.cut(site, both, l.others(site)...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client(l.endpoints()[leader])
	if err != nil {
		return err
	}
	defer c.Close()
	var revision int64
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(20 * time.Millisecond) {
		put, err := c.Put(ctx, "/else", "where")
		if err != nil {
			return err
		}
		revision = put.Header.GetRevision()
	}
	if _, err := c.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	begin := time.Now()
	if err := l.heal(site, l.others(site)...); err != nil {
		return err
	}
	if _, err := await(20*time.Second, "all are in touch", func() bool {
		answer := l.read("sites/" + names[site])
		return answer != nil && len(answer.Kvs) == 1 && answer.Kvs[0].GetModRevision() > revision && l.inTouch()
	}); err != nil {
		return err
	}
	r.note("%s was cut off for 5 s, and etcd is compacted beyond what it has seen; it votes again after %s", names[site], seconds(time.Since(begin)))
	return nil
}

// decided waits until all answer something.
func (l *lab) decided(what, answer string) error {
	_, err := await(5*time.Second, what+": all answer "+answer, func() bool { return l.replicas.all(answer) })
	return err
}

// again starts etcd, which is at a revision, and waits until all sites are in touch over it.
func (l *lab) again(revision int64) error {
	if err := l.startEtcd(); err != nil {
		return err
	}
	if _, err := l.leader(); err != nil {
		return err
	}
	_, err := await(30*time.Second, "all are in touch, and write", func() bool { return l.inTouch() && l.writes(revision) })
	return err
}

// read is what etcd has below a folder of ours; nil: it does not say.
func (l *lab) read(folder string) *clientv3.GetResponse {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c, err := client(l.endpoints()...)
	if err != nil {
		return nil
	}
	defer c.Close()
	answer, err := c.Get(ctx, share.DefaultPrefix+folder, clientv3.WithPrefix())
	if err != nil {
		return nil
	}
	return answer
}

// writes says whether etcd has a heartbeat of each site that is later than a revision.
func (l *lab) writes(revision int64) bool {
	answer := l.read("sites/")
	if answer == nil {
		return false
	}
	for _, kv := range answer.Kvs {
		if kv.GetModRevision() <= revision {
			return false
		}
	}
	return len(answer.Kvs) == sites
}

// revision is that of the newest heartbeat.
func (l *lab) revision() (newest int64, err error) {
	answer := l.read("sites/")
	if answer == nil {
		return 0, errors.New("etcd does not say")
	}
	for _, kv := range answer.Kvs {
		newest = max(newest, kv.GetModRevision())
	}
	return newest, nil
}

// beat waits until each site has a heartbeat that is later than a revision.
func (l *lab) beat(revision int64) error {
	_, err := await(5*time.Second, "each site has another heartbeat", func() bool { return l.writes(revision) })
	return err
}

// overrides says whether etcd has an override of a member, and no other.
func (l *lab) overrides(member int) bool {
	answer := l.read("overrides/")
	return answer != nil && len(answer.Kvs) == 1 && strings.Contains(string(answer.Kvs[0].GetValue()), l.member(member))
}

// setBack takes a snapshot, has something be decided, and restores the snapshot. Either each site has had a heartbeat
// meanwhile, or all is over before the next: then none finds another heartbeat of its own there than it has written last.
func setBack(beaten bool) func(l *lab, r *report) error {
	return func(l *lab, r *report) error {
		r.everybody("1 2, 2, 1 2, 1, 1 2")
		if err := l.drain(0, 0); err != nil {
			return err
		}
		if err := l.decided("a member is drained", "2"); err != nil {
			return err
		}
		if !beaten {
			now, err := l.revision()
			if err != nil {
				return err
			}
			if err := l.beat(now); err != nil {
				return err
			}
		}
		saved, err := l.saveEtcd()
		if err != nil {
			return err
		}
		if err := l.clear(0, 0); err != nil {
			return err
		}
		if err := l.decided("that is cleared", "1 2"); err != nil {
			return err
		}
		if err := l.drain(1, 1); err != nil {
			return err
		}
		if err := l.decided("another member is drained", "1"); err != nil {
			return err
		}
		if beaten {
			if err := l.beat(saved); err != nil {
				return err
			}
		}
		l.stopEtcd()
		if err := l.restoreEtcd(); err != nil {
			return err
		}
		begin := time.Now()
		if err := l.again(saved); err != nil {
			return err
		}
		r.note("all are in touch %s after the start of an etcd restored from an older snapshot", seconds(time.Since(begin)))
		if err := l.cleared(); err != nil {
			return err
		}
		r.note("what was decided since is decided")
		return nil
	}
}

func wiped(l *lab, r *report) error {
	r.everybody("1 2, 1, 1 2")
	if err := l.drain(1, 1); err != nil {
		return err
	}
	if err := l.decided("a member is drained", "1"); err != nil {
		return err
	}
	l.stopEtcd()
	if err := os.RemoveAll(filepath.Join(l.dir, "etcd")); err != nil {
		return err
	}
	begin := time.Now()
	if err := l.again(0); err != nil {
		return err
	}
	r.note("all are in touch %s after the start of an empty etcd", seconds(time.Since(begin)))
	if err := l.cleared(); err != nil {
		return err
	}
	r.note("what was decided is decided")
	return nil
}

// cleared sees that etcd has the override of the second member, and no other, and clears it.
func (l *lab) cleared() error {
	const what = "etcd has an override of member 2, and no other"
	if _, err := await(10*time.Second, what, func() bool { return l.overrides(1) }); err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	if !l.overrides(1) {
		return fmt.Errorf("no longer so: %s", what)
	}
	if err := l.clear(2, 1); err != nil {
		return err
	}
	return l.decided("that is cleared", "1 2")
}
