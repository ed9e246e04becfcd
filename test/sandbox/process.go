package sandbox

import (
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a program that runs beside the tests.
type Process struct {
	*exec.Cmd
	said  transcript
	ended chan struct{}
}

// Start starts a program, which lives no longer than this one. Where there is a second writer it gets what the program
// says as well.
func Start(cmd *exec.Cmd, also ...io.Writer) (*Process, error) {
	p := &Process{Cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout = io.MultiWriter(append(also, &p.said)...)
	cmd.Stderr = cmd.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // it is the end of the thread that Pdeathsig waits for
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	return p, <-started
}

// Said is all that the program has said so far.
func (p *Process) Said() string { return p.said.String() }

// Signal sends a signal to the program and what it has started.
func (p *Process) Signal(s syscall.Signal) { _ = syscall.Kill(-p.Process.Pid, s) }

// Ended says whether the program is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// End ends the program, by force when it takes longer than grace. It says whether force was needed.
func (p *Process) End(grace time.Duration) (forced bool) {
	p.Signal(syscall.SIGCONT)
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return false
	case <-time.After(grace):
		p.Signal(syscall.SIGKILL)
		<-p.ended
		return true
	}
}

// transcript keeps what a program has said.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (t *transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(b)
}

// String is all of it so far.
func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
