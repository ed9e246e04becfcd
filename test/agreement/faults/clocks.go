package main

import (
	"fmt"
	"net/http"
	"time"
)

// clocks is by how much the clocks of the sites are ahead.
type clocks [sites]time.Duration

// check compares the clock of a site with a time that it has just told, as HTTP writes it.
func (c clocks) check(site int, date string) error {
	told, err := http.ParseTime(date)
	if err != nil {
		return err
	}
	if got := time.Until(told); (got - c[site]).Abs() > 5*time.Second {
		return fmt.Errorf("the clock of %s is ahead by %s, want %s", names[site], got, c[site])
	}
	return nil
}
