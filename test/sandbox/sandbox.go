// Package sandbox gives a program a network, a process table and mounts of its own. What it starts, adds or leaves
// behind goes when it does, however it ends, and nothing that it sends leaves the machine.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

// inside marks the program that runs in the sandbox.
const inside = "FAILOVER_SANDBOX=inside"

// ErrRoot is why there is no sandbox.
var ErrRoot = errors.New("network namespaces need root")

// Enter runs this program again in the sandbox, and returns its exit code and false. In the sandbox it returns true:
// there is a loopback interface, and nothing else. With an error, the exit code is 1.
func Enter() (code int, in bool, err error) {
	if os.Getenv("FAILOVER_SANDBOX") != "" {
		if err := furnish(); err != nil {
			return 1, true, err
		}
		return 0, true, nil
	}
	if os.Geteuid() != 0 {
		return 1, false, ErrRoot
	}
	self, err := os.Executable()
	if err != nil {
		return 1, false, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	// The main goroutine is on the main thread, whose end is the end of the program: Pdeathsig waits for a thread's.
	if err := cmd.Start(); err != nil {
		return 1, false, fmt.Errorf("no sandbox: %w", err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return 1, false, err
	}
	if code = cmd.ProcessState.ExitCode(); code < 0 {
		code = 1
	}
	return code, false, nil
}

// furnish makes /proc tell of the sandbox's processes, keeps the names of namespaces in it, and starts the loopback
// interface.
func furnish() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts of one's own: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", "/run/netns", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("/run/netns: %w", err)
	}
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	return Run("ip link set lo up")
}

// Run runs a command, whose words have no spaces in them.
func Run(command string) error {
	words := strings.Fields(command)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	return nil
}
