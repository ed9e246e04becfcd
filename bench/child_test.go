package bench

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

// children are what this program can be besides the tests: what is measured by itself must not have a
// server for all the other tests in the same process.
var children = map[string]func() error{}

// childKey is the variable that says which of them this process is.
const childKey = "FAILOVER_BENCH_CHILD"

// child starts this program again as one of the children, and returns the lines that it prints. It ends with
// its input, and so with this process at the latest.
func child(tb testing.TB, name string, env ...string) (lines *bufio.Scanner, stop func()) {
	tb.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(append(os.Environ(), childKey+"="+name), env...)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.Start(); err != nil {
		tb.Fatal(err)
	}
	stop = func() {
		in.Close()
		io.Copy(io.Discard, out)
		c.Wait()
	}
	return bufio.NewScanner(out), stop
}

// runChild is the main function of a child.
func runChild(name string) int {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if err := children[name](); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		return 1
	}
	return 0
}
