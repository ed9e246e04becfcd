//go:build race

package bench

func init() { underRace = true }
