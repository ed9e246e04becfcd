package main

import (
	"fmt"

	"github.com/coredns-failover/failover/test/sandbox"
)

// The hosts, each a network namespace on one bridge. Queries come from the bridge itself.
const (
	bridge   = "10.99.0.1"
	port     = "1053"
	replicas = 2
	primary  = 2 // as many members are in the first tier, the rest in the second
)

func replicaAddress(i int) string { return fmt.Sprintf("10.99.0.%d", 11+i) }

var members = [...]string{"10.99.0.21", "10.99.0.22", "10.99.0.31", "10.99.0.32"}

// connect makes the bridge and the hosts. It says whether the kernel has netem, which not every one has.
func connect() (netem bool, err error) {
	commands := []string{"ip link add br0 type bridge", "ip addr add " + bridge + "/24 dev br0", "ip link set br0 up"}
	for i := range replicas {
		commands = append(commands, host(fmt.Sprint("dns", i), replicaAddress(i))...)
	}
	for i, addr := range members {
		commands = append(commands, host(fmt.Sprint("m", i), addr)...)
	}
	if err := runAll(commands); err != nil {
		return false, err
	}
	if sandbox.Run("tc qdisc add dev br0 root netem delay 1ms") != nil {
		return false, nil
	}
	return true, sandbox.Run("tc qdisc del dev br0 root")
}

// host is how to make a host: its namespace, its link to the bridge, and chains for rules.
func host(name, addr string) []string {
	return []string{
		"ip netns add " + name,
		"ip link add " + name + " type veth peer name eth0 netns " + name,
		"ip link set " + name + " master br0 up",
		"ip -n " + name + " addr add " + addr + "/24 dev eth0",
		"ip -n " + name + " link set lo up",
		"ip -n " + name + " link set eth0 up",
		"ip netns exec " + name + " nft add table inet soak",
		"ip netns exec " + name + " nft add chain inet soak in { type filter hook input priority 0 ; }",
		"ip netns exec " + name + " nft add chain inet soak out { type filter hook output priority 0 ; }",
	}
}

// filter gives a host rules: what comes in from an address, and what goes out to it. Without any, all passes.
func filter(host string, rules ...string) error {
	commands := []string{"ip netns exec " + host + " nft flush table inet soak"}
	for _, r := range rules {
		commands = append(commands, "ip netns exec "+host+" nft add rule inet soak "+r)
	}
	return runAll(commands)
}

func runAll(commands []string) error {
	for _, c := range commands {
		if err := sandbox.Run(c); err != nil {
			return err
		}
	}
	return nil
}
