package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/coredns-failover/failover/test/sandbox"
)

// lab is all that runs.
type lab struct {
	dir     string
	servers [replicas]*sandbox.Process
	members [len(members)]*sandbox.Process
	netem   bool // the kernel has it
	*truth
}

// build makes the hosts and starts the servers and the members.
func build(program string) (l *lab, err error) {
	l = &lab{truth: newTruth()}
	if l.netem, err = connect(); err != nil {
		return l, err
	}
	for i := range members {
		if err := l.revive(i); err != nil {
			return l, err
		}
	}
	if l.dir, err = os.MkdirTemp("", "soak"); err != nil {
		return l, err
	}
	if err := os.Chmod(l.dir, 0o755); err != nil {
		return l, err
	}
	if err := l.configure(0); err != nil {
		return l, err
	}
	return l, l.serve(program)
}

// serve starts the replicas and waits until they answer.
func (l *lab) serve(program string) (err error) {
	for i := range l.servers {
		// As the pod: nobody's user, and nothing that it may do.
		cmd := exec.Command("ip", "netns", "exec", fmt.Sprint("dns", i), "setpriv", "--reuid=65532", "--regid=65532", "--clear-groups",
			"--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", program, "-conf", l.corefile(i))
		if l.servers[i], err = sandbox.Start(cmd); err != nil {
			return err
		}
	}
	for i, s := range l.servers {
		for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			if _, _, err := ask(i, "udp", "v0.example.org."); err == nil {
				break
			}
			if time.Since(begin) > 30*time.Second || s.Ended() {
				return fmt.Errorf("replica %d does not answer:\n%s", i, s.Said())
			}
		}
	}
	return nil
}

// end ends the servers and removes what is outside the sandbox.
func (l *lab) end() {
	for _, p := range l.servers {
		if p != nil && p.End(15*time.Second) {
			fmt.Fprintln(os.Stderr, "A replica had to be killed")
		}
	}
	if l.dir != "" {
		os.RemoveAll(l.dir)
	}
}

func (l *lab) corefile(replica int) string {
	return filepath.Join(l.dir, fmt.Sprint("Corefile", replica))
}

// configure writes the Corefiles, in which only v0, v1 and so on has the version.
func (l *lab) configure(version int) error {
	tiers := [2]string{}
	for i, addr := range members {
		tier := &tiers[min(i/primary, 1)]
		*tier += " " + addr + ":8080"
	}
	for i := range replicas {
		text := fmt.Sprintf(`example.org:%s {
    bind %s
    errors
    health 127.0.0.1:8080 {
        lameduck 1s
    }
    ready 127.0.0.1:8181
    prometheus %[2]s:9153
    reload 2s
    failover {
        probe http://:8080/healthz
        interval 1s
        recheck 200ms
        timeout 500ms
    }
    failover www.example.org {
        primary%[3]s
        backup%[4]s
    }
    failover v%[5]d.example.org %[6]s:8080
}
`, port, replicaAddress(i), tiers[0], tiers[1], version, members[version%len(members)])
		path := l.corefile(i)
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

// kill ends a member without a word.
func (l *lab) kill(member int) error {
	l.members[member].Signal(syscall.SIGKILL)
	for begin := time.Now(); !l.members[member].Ended(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 5*time.Second {
			return errors.New("a member does not end")
		}
	}
	return nil
}

// revive starts a member.
func (l *lab) revive(member int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	l.members[member], err = sandbox.Start(exec.Command("ip", "netns", "exec", fmt.Sprint("m", member), self, "member", members[member]+":8080"))
	return err
}
