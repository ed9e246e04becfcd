package failover

import (
	"cmp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/transfer"
)

func init() { plugin.Register("failover", setup) }

func setup(c *caddy.Controller) error {
	if err := setUp(c); err != nil {
		return process.refusal.by(err)
	}
	return nil
}

// setUp is setup, which notes its error.
func setUp(c *caddy.Controller) error {
	directives, err := parse(c)
	if err != nil {
		return plugin.Error("failover", err)
	}
	server := dnsserver.GetConfig(c)
	zones := plugin.OriginsFromArgsOrServerBlock(nil, c.ServerBlockKeys)
	configs, err := configure(directives, zones, server.Root)
	if err != nil {
		return plugin.Error("failover", err)
	}

	all := corefileOf(c)
	operation := &all.generation.operation
	if err := cmp.Or(operation.join(&configs[0].operation), operation.apart()); err != nil {
		return plugin.Error("failover", err)
	}
	if all.plan != nil {
		all.plan.add(all, c, server, configs)
	}
	key := all.key(c.ServerBlockKeys)
	b := newBlock(all.generation, configs, zones, key)
	ofPools := b.bypass
	b.bypass = func() []string {
		if server.Handler("transfer") == nil {
			return ofPools()
		}
		// Whoever asks for the SOA because of a NOTIFY has to see the new serial.
		bypass := slices.Concat(ofPools(), zones)
		for _, h := range handlersBelow(server) {
			bypass = append(bypass, zonesOf(h)...)
		}
		return slices.DeleteFunc(bypass, func(z string) bool { return z == "." }) // the rest of the world is left to cache
	}
	at, updates := directives[0].position, configs[0].updates // the rest of them is let go
	all.blocks = append(all.blocks, func() error {
		if server.Handler("loadbalance") != nil {
			return plugin.Error("failover", at.errorf("loadbalance in the same server block would shuffle the answers, want a server block of their own for the names, or no loadbalance"))
		}
		if len(b.overlays) > 0 && len(handlersBelow(server)) == 0 {
			return plugin.Error("failover", at.errorf("from next without a plugin that could answer, want one such as file or forward in the same server block"))
		}
		if err := b.write(updates, server.TsigSecret, all.places); err != nil {
			return plugin.Error("failover", err)
		}
		b.zonesBelow, b.soasBelow = zonesBelow(server), soasBelow(server)
		if t, ok := server.Handler("transfer").(*transfer.Transfer); ok {
			b.transfers = newTransfers(b, key, zones, handlersBelow(server), t.Notify)
			b.feed(b.transfers)
		}
		b.view = server.ViewName // known only now
		return nil
	})
	// Whoever embeds CoreDNS may drop an instance without a word to its plugins. Its generation, which has the block,
	// goes with the last of its handlers.
	of := &handler{b}
	runtime.AddCleanup(of, (*generation).stop, all.generation)
	server.AddPlugin(func(next plugin.Handler) plugin.Handler { return Failover{Next: next, handler: of} })
	return nil
}

// parse reads the directives of a server block as they stand, without judging them.
func parse(c *caddy.Controller) ([]directive, error) {
	var directives []directive
	for c.Next() {
		if c.Val() == "{" {
			return nil, position{c.File(), c.Line()}.errorf("unexpected %q, want it at the end of the line of failover", "{")
		}
		d := directive{position: position{c.File(), c.Line()}, args: c.RemainingArgs()}
		for c.NextBlock() {
			p := property{position: position{c.File(), c.Line()}, word: c.Val(), args: c.RemainingArgs()}
			if slices.Contains(p.args, "}") {
				return nil, p.errorf("unexpected %q after %q, want it on a line of its own", "}", p.word)
			}
			if p.word == "{" || c.NextArg() {
				return nil, p.errorf("unexpected %q after %q, want one property on each line", "{", p.word)
			}
			d.properties = append(d.properties, p)
		}
		if c.Val() == "}" && c.NextArg() {
			return nil, position{c.File(), c.Line()}.errorf("unexpected %q after %q, want nothing there", c.Val(), "}")
		}
		directives = append(directives, d)
	}
	return directives, nil
}

// corefile is what the server blocks of one Corefile share while it is being set up.
type corefile struct {
	generation *generation
	blocks     []func() error     // see check
	keys       map[string]int     // how many server blocks have the same keys
	places     map[place]position // that updates write to
	plan       *Plan              // nil: it is going to be started
}

// check looks at what only shows when all plugins are known.
func (all *corefile) check() error {
	for _, check := range all.blocks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// corefileKey is where a corefile is kept in its instance.
type corefileKey struct{}

// corefileOf returns the corefile that c is part of. The first server block begins it and ties its
// generation to the life of the instance.
//
// CoreDNS runs OnStartup of a new instance before it stops the old one, and runs none of the other
// callbacks of an instance that it discards.
func corefileOf(c *caddy.Controller) *corefile {
	if all, ok := c.Get(corefileKey{}).(*corefile); ok {
		return all
	}
	g := process.newGeneration()
	all := &corefile{generation: g, keys: make(map[string]int), places: make(map[place]position), plan: planning.now.Load()}
	c.Set(corefileKey{}, all)

	c.OnFirstStartup(func() error { g.first = true; return nil })
	c.OnStartup(func() error {
		if err := all.check(); err != nil {
			return process.refusal.by(err)
		}
		watchOthers()
		if err := process.open(g); err != nil {
			return process.refusal.by(plugin.Error("failover", err))
		}
		g.start()
		return nil
	})
	c.OnRestart(func() error { g.reload(); return nil })
	c.OnRestartFailed(func() error {
		// A plugin that fails to shut down makes a failure of a reload that has taken place.
		if isRunning(g) {
			g.reloadFailed()
		} else {
			g.reloaded()
		}
		return nil
	})
	c.OnShutdown(func() error {
		// When it is the process that ends, the last queries are still to come.
		if g.reloading() {
			g.reloaded()
		}
		return nil
	})
	c.OnFinalShutdown(func() error { g.stop(); return nil })
	return all
}

// isRunning says whether the instance that g belongs to is one that CoreDNS has not stopped.
func isRunning(g *generation) bool { return instanceOf(g) != nil }

// instanceOf is the instance that g belongs to; nil: CoreDNS does not have it, or not yet.
func instanceOf(g *generation) *caddy.Instance {
	instances := caddy.Instances()
	i := slices.IndexFunc(instances, func(i *caddy.Instance) bool {
		i.StorageMu.RLock()
		defer i.StorageMu.RUnlock()
		all, ok := i.Storage[corefileKey{}].(*corefile)
		return ok && all.generation == g
	})
	if i < 0 {
		return nil
	}
	return instances[i]
}

// watchedKey marks an instance that watchOthers has been at.
type watchedKey struct{}

// watchOthers has the instances without failover stop what CoreDNS discards when a reload of theirs fails:
// it tells the instance that goes on, and nobody else.
func watchOthers() {
	for _, i := range caddy.Instances() {
		i.StorageMu.Lock()
		if i.Storage[corefileKey{}] == nil && i.Storage[watchedKey{}] == nil {
			i.Storage[watchedKey{}] = true
			i.OnRestartFailed = append(i.OnRestartFailed, func() error { process.stopDiscarded(); return nil })
		}
		i.StorageMu.Unlock()
	}
}

// stopDiscarded stops the generations whose instance CoreDNS does not have any more.
func (r *registry) stopDiscarded() {
	r.mu.Lock()
	all := slices.Clone(r.generations)
	r.mu.Unlock()
	for _, g := range all {
		if !isRunning(g) {
			g.stop()
		}
	}
}

// key names a server block so that it is found again in the next Corefile. Blocks that only differ in
// their view have the same keys, and are told apart by their order.
func (all *corefile) key(keys []string) string {
	k := strings.Join(keys, " ")
	all.keys[k]++
	return k + "#" + strconv.Itoa(all.keys[k])
}

// zonesBelow says whether any plugin after failover may have zones of its own. The others know what the
// rest of the world says, and waiting for that would tie a wildcard's answers to the network.
func zonesBelow(server *dnsserver.Config) bool {
	return slices.ContainsFunc(handlersBelow(server), func(h plugin.Handler) bool {
		return !slices.Contains([]string{"loop", "forward", "grpc"}, h.Name())
	})
}

// soasBelow says whether any plugin after failover has an SOA for its zone. hosts and template are zones to
// nobody, and hand on what they do not know.
func soasBelow(server *dnsserver.Config) bool {
	return slices.ContainsFunc(handlersBelow(server), func(h plugin.Handler) bool {
		return !slices.Contains([]string{"template", "transfer", "hosts", "loop", "forward", "grpc", "erratic", "whoami"}, h.Name())
	})
}

// handlersBelow are the plugins after failover.
func handlersBelow(server *dnsserver.Config) []plugin.Handler {
	handlers := server.Handlers()
	ours := slices.IndexFunc(handlers, func(h plugin.Handler) bool { return h.Name() == "failover" })
	return handlers[ours+1:]
}
