package main

import (
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/coredns-failover/failover/test/sandbox"
)

// names are the sites. Each is a network namespace, with a CoreDNS and an etcd in it.
var names = [...]string{"fra", "iad", "nrt"}

// sites is how many there are.
const sites = len(names)

// members are in a namespace of their own, in which one process answers for all of them. The first two are the primary
// tier, the third is the backup. The others are the primary and the backup of another pool, at which nothing else is done.
const members = 5

// Everything of a lab is on one bridge, which queries come from. It is never cut off.
func (l *lab) address(host int) string  { return fmt.Sprintf("10.99.%d.%d", l.number, host) }
func (l *lab) site(i int) string        { return l.address(11 + i) }
func (l *lab) member(i int) string      { return l.address(21 + i) }
func (l *lab) space(name string) string { return fmt.Sprint(name, l.number) }

func (l *lab) everyMember() []string {
	var all []string
	for i := range members {
		all = append(all, l.member(i))
	}
	return all
}

// connect makes the bridge and the hosts.
func (l *lab) connect() error {
	bridge := l.space("br")
	commands := []string{
		"ip link add " + bridge + " type bridge",
		"ip addr add " + l.address(1) + "/24 dev " + bridge,
		"ip link set " + bridge + " up",
	}
	hosts := map[string][]string{"members": l.everyMember()}
	for i, name := range names {
		hosts[name] = []string{l.site(i)}
	}
	for name, addrs := range hosts {
		name = l.space(name)
		commands = append(commands,
			"ip netns add "+name,
			"ip link add "+name+" type veth peer name eth0 netns "+name,
			"ip link set "+name+" master "+bridge+" up",
			"ip -n "+name+" link set lo up",
			"ip -n "+name+" link set eth0 up",
			"ip netns exec "+name+" nft add table inet faults",
			"ip netns exec "+name+" nft add chain inet faults in { type filter hook input priority 0 ; }",
			"ip netns exec "+name+" nft add chain inet faults out { type filter hook output priority 0 ; }")
		for _, addr := range addrs {
			commands = append(commands, "ip -n "+name+" addr add "+addr+"/24 dev eth0")
		}
	}
	for _, c := range commands {
		if err := sandbox.Run(c); err != nil {
			return err
		}
	}
	return nil
}

// direction is what a cut stops.
type direction int

const (
	both direction = iota
	in             // nothing arrives
	out            // nothing leaves
)

// cut stops what goes between a site and others.
func (l *lab) cut(site int, d direction, others ...string) error {
	for _, addr := range others {
		if d != out {
			l.rules[site] = append(l.rules[site], "in ip saddr "+addr+" drop")
		}
		if d != in {
			l.rules[site] = append(l.rules[site], "out ip daddr "+addr+" drop")
		}
	}
	return l.filter(site)
}

// heal has it pass again.
func (l *lab) heal(site int, others ...string) error {
	l.rules[site] = slices.DeleteFunc(l.rules[site], func(rule string) bool { return slices.Contains(others, strings.Fields(rule)[3]) })
	return l.filter(site)
}

// filter has the rules of a site be in force, all at once.
func (l *lab) filter(site int) error {
	script := strings.Join(append([]string{"flush table inet faults"}, l.rules[site]...), "\nadd rule inet faults ") + "\n"
	cmd := exec.Command("ip", "netns", "exec", l.space(names[site]), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", script, err, text)
	}
	return nil
}

// others are the addresses of the other sites.
func (l *lab) others(site int) []string {
	var all []string
	for i := range names {
		if i != site {
			all = append(all, l.site(i))
		}
	}
	return all
}

// serveMembers answers for members.
func serveMembers(addrs []string) error {
	errs := make(chan error)
	for _, addr := range addrs {
		s := &http.Server{Addr: addr + ":8080", ReadHeaderTimeout: 5 * time.Second,
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		go func() { errs <- s.ListenAndServe() }()
	}
	return <-errs
}
