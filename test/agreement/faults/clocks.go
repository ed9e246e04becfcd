package main

import (
	"fmt"
	"net/http"
	"time"
)

// clocks is by how much the clocks of the sites are ahead.
type clocks [sites]time.Duration

// checkClock sees that a site has the clock that it should have, which HTTP tells.
func (l *lab) checkClock(site int) error {
	c := http.Client{Timeout: 2 * time.Second}
	r, err := c.Get("http://" + l.site(site) + ":9153/metrics")
	if err != nil {
		return err
	}
	r.Body.Close()
	told, err := http.ParseTime(r.Header.Get("Date"))
	if err != nil {
		return err
	}
	if got := time.Until(told); (got - l.clocks[site]).Abs() > 5*time.Second {
		return fmt.Errorf("the clock of %s is ahead by %s, want %s", names[site], got, l.clocks[site])
	}
	return nil
}
