package main

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// held has a site be killed while a member that came back waits at all sites for an operator.
func held(l *lab, r *report) error {
	r.everybody("1 2")
	var asked replicas
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range asked {
		wg.Go(func() { l.query(ctx, i, "held.example.org.", &asked[i]) })
	}
	defer func() {
		cancel()
		wg.Wait()
	}()
	if err := l.hold(&asked); err != nil {
		return err
	}
	time.Sleep(time.Second)

	asked[2].setAway(true)
	l.kill(2)
	time.Sleep(time.Second)
	if err := l.serve(2); err != nil {
		return err
	}
	asked[2].setAway(false)
	if _, err := await(20*time.Second, "nrt votes again", func() bool { return l.inTouch() }); err != nil {
		return err
	}
	time.Sleep(time.Second)
	if err := asked.wrong("4, 5"); err != nil {
		return err
	}
	r.note("nrt, started again, answers the backup from the first answer on, as the others do")

	if err := l.change(0, http.MethodDelete, "pools/held.example.org/members/"+l.member(3), ""); err != nil {
		return err
	}
	took, err := await(prompt, "all answer the primary again", func() bool { return asked.all("4") })
	if err != nil {
		return err
	}
	r.note("let back at fra, it is answered everywhere after %s", seconds(took))
	return asked.wrong("4, 5, 4")
}

// hold has the primary of the pool that holds die for all sites, and come back.
func (l *lab) hold(asked *replicas) error {
	if _, err := await(5*time.Second, "all answer the primary", func() bool { return asked.all("4") }); err != nil {
		return err
	}
	for i := range names {
		if err := l.cut(i, both, l.member(3)); err != nil {
			return err
		}
	}
	if _, err := await(10*time.Second, "all answer the backup", func() bool { return asked.all("5") }); err != nil {
		return err
	}
	for i := range names {
		if err := l.find(i, 3); err != nil {
			return err
		}
	}
	return nil
}
