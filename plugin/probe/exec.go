package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxPrograms is how many programs run at once in the process: enough for a thousand members with a
// program that takes 50 ms, and few enough for a server that has to answer queries meanwhile.
const maxPrograms = 16

// running has a place for each program.
var running = make(chan struct{}, maxPrograms)

// program asks by running a program, which is told the address and exits with status 0 if that works.
// There is no shell, and nothing in the environment but what is said of the member.
type program struct {
	path string
	args []string
	name string // the pool's; empty: a wildcard
}

func parseExec(l line) (Prober, error) {
	p := &program{path: l.url.Path, args: l.options, name: l.name}
	if err := l.hostless("exec:///PATH"); err != nil {
		return nil, err
	}
	if l.url.RawQuery != "" || l.url.ForceQuery {
		return nil, fmt.Errorf("URL %q has a query, want the arguments behind it, each a word", l.word)
	}
	if strings.Trim(p.path, "/") == "" {
		return nil, fmt.Errorf("no program in URL %q, want one as in exec:///usr/local/bin/check", l.word)
	}
	for _, word := range append([]string{p.path}, p.args...) {
		if strings.Contains(word, "\x00") {
			return nil, fmt.Errorf("%q for a program holds a zero byte, want none", word)
		}
	}
	if _, err := exec.LookPath(p.path); err != nil {
		if inner, ok := errors.AsType[*exec.Error](err); ok {
			err = inner.Err
		}
		if inner, ok := errors.AsType[*fs.PathError](err); ok {
			err = inner.Err
		}
		return nil, fmt.Errorf("program %q: %w, want one that can be run", p.path, err)
	}
	return p, nil
}

func (p *program) Kind() string { return "exec" }

// String has the arguments, among which there may be a password, in one digest.
func (p *program) String() string {
	s := fmt.Sprintf("exec://%s name %q", quotePath(p.path), p.name)
	if len(p.args) > 0 {
		s += " args " + digest([]byte(strings.Join(p.args, "\x00")))
	}
	return s
}

// quotePath is path without letters that would end it, or a line.
func quotePath(path string) string {
	return strings.Trim(strconv.QuoteToASCII(path), `"`)
}

func (p *program) Probe(ctx context.Context, target netip.AddrPort) error {
	waited, err := enter(ctx)
	if err != nil {
		return err
	}
	defer func() { <-running }()
	var said lastLine
	cmd := exec.CommandContext(ctx, p.path, p.args...) // #nosec G204 -- what the Corefile says
	cmd.Dir, cmd.Env, cmd.Stderr = "/", p.environment(target), &said
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.WaitDelay = 100 * time.Millisecond // for those of its children that hold stderr, and have left the group
	ownGroup(cmd)
	err = cmd.Run()
	if cmd.Process != nil {
		killGroup(cmd) // of which there may be children yet
	}
	return p.judge(ctx, err, waited, said.text())
}

// enter takes a place among those that run, and says how long that took if all were taken.
func enter(ctx context.Context) (waited time.Duration, err error) {
	select {
	case running <- struct{}{}:
		return 0, nil
	default:
	}
	begun := time.Now()
	select {
	case running <- struct{}{}:
		return time.Since(begun), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrNotAsked, plain(ctx, fmt.Sprintf("while waiting, with %d other programs running", maxPrograms), ctx.Err()))
	}
}

// environment is all that the program gets to know of the member.
func (p *program) environment(target netip.AddrPort) []string {
	env := []string{"FAILOVER_ADDRESS=" + target.Addr().String()}
	if port := target.Port(); port != 0 {
		env = append(env, "FAILOVER_PORT="+strconv.Itoa(int(port)))
	}
	if p.name != "" {
		env = append(env, "FAILOVER_NAME="+p.name)
	}
	return env
}

// judge says what the end of a program means. What it said last is the reason.
func (p *program) judge(ctx context.Context, err error, waited time.Duration, said string) error {
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case ctx.Err() != nil:
		doing := "while the program ran"
		if waited > 0 { // so it had not all of the time
			doing += ", which had waited " + waited.Round(time.Millisecond).String() + " for its turn"
		}
		err = plain(ctx, doing, ctx.Err())
	case errors.As(err, &exit):
		err = exit
		if said == "" {
			return fmt.Errorf("%w, want exit status 0", err)
		}
	case isOurs(err), errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("%w: the program cannot be run: %w", ErrNotAsked, err)
	default:
		return fmt.Errorf("the program cannot be run: %w", plain(ctx, connecting, err))
	}
	if said == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, said)
}

// A lastLine keeps the end of what is written to it.
type lastLine struct{ tail []byte }

// Write implements io.Writer.
func (l *lastLine) Write(b []byte) (int, error) {
	const most = 1024 // twice as long as a reason may be
	n := len(b)
	l.tail = append(l.tail, b[max(0, len(b)-most):]...)
	l.tail = append(l.tail[:0], l.tail[max(0, len(l.tail)-most):]...)
	return n, nil
}

// text is the last line that is not empty, fit for a log.
func (l *lastLine) text() string {
	tail := bytes.TrimSpace(l.tail)
	if i := bytes.LastIndexAny(tail, "\r\n"); i >= 0 {
		tail = tail[i+1:]
	}
	return legible(string(tail))
}
