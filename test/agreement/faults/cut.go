package main

import (
	"fmt"
	"strings"
	"time"
)

// cutOff cuts the site of a follower or of the leader off from the other sites, and has a member be dead for it alone.
func cutOff(d direction, leads bool) func(l *lab, r *report) error {
	return func(l *lab, r *report) error {
		site, err := l.leader()
		if err != nil {
			return err
		}
		if !leads {
			site = (site + 1) % sites
		}
		rest := []int{(site + 1) % sites, (site + 2) % sites}
		r.everybody("1 2")
		r.courses[site] = "1 2, 2, 1 2"
		if err := l.lose(site, 0); err != nil {
			return err
		}
		begin := time.Now()
		if err := l.cut(site, d, l.others(site)...); err != nil {
			return err
		}
		if d == both {
			r.courses[rest[0]], r.courses[rest[1]] = "1 2, 1, 1 2", "1 2, 1, 1 2"
			if err := l.goOn(r, begin, rest...); err != nil {
				return err
			}
		}
		if err := l.isAlone(r, begin, site, rest...); err != nil {
			return err
		}
		time.Sleep(time.Second)
		if err := l.rejoins(r, site); err != nil {
			return err
		}
		time.Sleep(2 * time.Second)
		return l.find(site, 0)
	}
}

// goOn has another member die for the others, which do without the one that is cut off since begin.
func (l *lab) goOn(r *report, begin time.Time, rest ...int) error {
	for _, i := range rest {
		if err := l.cut(i, both, l.member(1)); err != nil {
			return err
		}
	}
	if err := l.agree(r, "a member dies for the others", "1", begin, l.decider(true, 1, "down", rest...), rest...); err != nil {
		return err
	}
	healed := time.Now()
	for _, i := range rest {
		if err := l.heal(i, l.member(1)); err != nil {
			return err
		}
	}
	// The vote of the one that is cut off is that it is up, and has still some seconds to count.
	return l.agree(r, "and is back", "1 2", healed, l.decider(false, 1, "up", rest...), rest...)
}

// isAlone waits until a site that is cut off since begin goes by its own eyes, and does not count for the others.
func (l *lab) isAlone(r *report, begin time.Time, site int, rest ...int) error {
	if _, err := await(20*time.Second, "the one that is cut off goes by its own eyes", func() bool {
		_, ok := l.replicas[site].since("2", begin)
		return ok
	}); err != nil {
		return err
	}
	at, _ := l.replicas[site].since("2", begin)
	r.note("%s, cut off, goes by its own eyes after %s", names[site], seconds(at.Sub(begin)))
	_, err := await(20*time.Second, "the others no longer count it", func() bool {
		return l.inTouch(rest...) && !strings.Contains(l.metrics(rest[0]), fmt.Sprintf("site_fresh{site=%q} 1", names[site]))
	})
	return err
}

// rejoins ends that a site is cut off, and waits until it goes by the others.
func (l *lab) rejoins(r *report, site int) error {
	begin := time.Now()
	if err := l.heal(site, l.others(site)...); err != nil {
		return err
	}
	if _, err := await(30*time.Second, "it goes by the others again", func() bool {
		_, ok := l.replicas[site].since("1 2", begin)
		return ok
	}); err != nil {
		return err
	}
	at, _ := l.replicas[site].since("1 2", begin)
	if _, err := await(30*time.Second, "all are in touch", func() bool { return l.inTouch() }); err != nil {
		return err
	}
	r.note("when that is over, it goes by the others again after %s, and all are in touch after %s", seconds(at.Sub(begin)), seconds(time.Since(begin)))
	return nil
}
