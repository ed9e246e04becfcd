package test

import (
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// daemon is a program that runs beside a test and ends with it.
type daemon struct {
	*exec.Cmd
	said  *transcript
	ended chan struct{}
}

// transcript keeps what a program has said.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

var _ io.Writer = (*transcript)(nil)

// Write implements io.Writer.
func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// String is all of it so far.
func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// beside runs a program until the test ends, and no longer than this process lives, whatever becomes of it.
// What it says is shown when the test fails.
func beside(t testing.TB, program string, args ...string) *daemon {
	t.Helper()
	d := &daemon{Cmd: exec.Command(program, args...), said: new(transcript), ended: make(chan struct{})}
	d.Stdout, d.Stderr = d.said, d.said
	d.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // it is the end of the thread that Pdeathsig waits for
		defer runtime.UnlockOSThread()
		defer close(d.ended)
		err := d.Start()
		started <- err
		if err == nil {
			_ = d.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("%s did not start: %v", program, err)
	}
	t.Cleanup(func() {
		d.end()
		if t.Failed() {
			t.Logf("%s said:\n%s", program, d.said)
		}
	})
	return d
}

// end ends the program. It may be called before the test ends.
func (d *daemon) end() {
	_ = syscall.Kill(-d.Process.Pid, syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(3 * time.Second):
		_ = syscall.Kill(-d.Process.Pid, syscall.SIGKILL)
		<-d.ended
	}
}

// hasEnded says whether the program is gone.
func (d *daemon) hasEnded() bool {
	select {
	case <-d.ended:
		return true
	default:
		return false
	}
}
