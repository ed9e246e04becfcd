// Package ctl is failoverctl, the operator's hand on the command line: it asks a running server by the HTTP of its
// status property, and reads Corefiles by itself. cmd/failoverctl is its main function.
package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/coredns-failover/failover"
)

// World is what a run has to do with. Its fields are set before, and not changed.
type World struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Zone     *time.Location // of the times that are shown
	Terminal bool           // Out is one
	Person   bool           // somebody is at it who can be asked
	Rows     func() int     // of the terminal
}

// The exit statuses.
const (
	good    = 0
	no      = 1 // what was asked for is not so, or has not been done
	refused = 2 // there is no answer: a slip in the arguments, no server, a Corefile that CoreDNS does not take
)

// saidNo is an error whose exit status is no.
type saidNo struct{ error }

// options are the flags of all commands.
type options struct {
	server, token, output string

	unwell               bool
	follow               bool
	pool, reason, author string
	until, lasts         string
	label, dryRun, force bool
	noProbe, strict      bool
}

// command is one of the words that failoverctl does something for.
type command struct {
	name, args, does string
	least, most      int // of its arguments
	flags            func(*flag.FlagSet, *options)
	run              func(context.Context, *session) error
}

// session is one run of one command.
type session struct {
	World
	options
	*command
	args []string
	say  *printer
}

// commands are all of them, in the order in which help has them. It is a function because help is one of them.
func commands() []*command {
	return []*command{
		{name: "status", args: "[TEXT]", does: "shows the pools, or those with TEXT in a name, a label or an address", most: 1, flags: statusFlags, run: showStatus},
		{name: "explain", args: "NAME", does: "tells why a name is answered as it is, and what would change that", least: 1, most: 1, run: explain},
		{name: "watch", args: "[NAME]", does: "shows what happens, as it happens", most: 1, run: watch},
		{name: "events", args: "[NAME]", does: "lists what has happened in the last day", most: 1, flags: eventsFlags, run: events},
		{name: "drain", args: "MEMBER", does: "takes a member out of the answers", least: 1, most: 1, flags: setFlags, run: set},
		{name: "down", args: "MEMBER", does: "makes a member down, whatever its probes say", least: 1, most: 1, flags: setFlags, run: set},
		{name: "up", args: "MEMBER", does: "makes a member up, whatever its probes say", least: 1, most: 1, flags: setFlags, run: set},
		{name: "clear", args: "MEMBER", does: "leaves a member to its probes again, and lets one back in that waits", least: 1, most: 1, flags: overrideFlags, run: unset},
		{name: "check", args: "COREFILE", does: "reads a Corefile, without a server, and probes each of its members once", least: 1, most: 1, flags: checkFlags, run: check},
		{name: "completion", args: "bash|zsh|fish", does: "prints what has a shell complete these commands", least: 1, most: -1, run: completion},
		{name: "help", args: "[COMMAND]", does: "says this, or more of one command", most: 1, run: help},
		{name: "version", does: "says which failoverctl this is", run: version},
	}
}

// Main runs failoverctl with its arguments, the program's name not among them, and returns the exit status.
func Main(ctx context.Context, args []string, w World) int {
	say := &printer{w: w.Out, color: w.Terminal && w.Getenv("NO_COLOR") == "" && w.Getenv("TERM") != "dumb", zone: w.Zone}
	err := start(ctx, args, w, say)
	if err == nil {
		err = say.err
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return good
	case errors.Is(err, context.Canceled) && ctx.Err() != nil: // Ctrl-C
		err = errors.New("interrupted")
	}
	var n saidNo
	isNo := errors.As(err, &n)
	if !isNo || n.error != nil {
		fmt.Fprintln(w.Err, "failoverctl:", legible(err.Error()))
	}
	if isNo {
		return no
	}
	return refused
}

// start finds the command, reads its flags and runs it.
func start(ctx context.Context, args []string, w World, say *printer) error {
	s := &session{World: w, say: say}
	global := newFlags("failoverctl", &s.options, w.Getenv)
	if err := global.Parse(args); err != nil {
		return s.usage(err)
	}
	if global.NArg() == 0 {
		return s.usage(errors.New("no command, want one of " + strings.Join(names(), ", ") + "; failoverctl help says what they do"))
	}
	word := global.Arg(0)
	all := commands()
	i := slices.IndexFunc(all, func(c *command) bool { return c.name == word })
	if i < 0 {
		return fmt.Errorf("unknown command %q, want one of %s", word, strings.Join(names(), ", "))
	}
	s.command = all[i]
	var err error
	if s.args, err = parse(s.commandFlags(), global.Args()[1:]); err != nil {
		return s.usage(err)
	}
	switch n := len(s.args); {
	case n < s.least:
		return fmt.Errorf("%s without %s, want failoverctl %s", s.name, s.command.args, s.synopsis())
	case s.most >= 0 && n > s.most:
		return fmt.Errorf("%s with %q, want failoverctl %s", s.name, s.args[s.most], s.synopsis())
	case slices.Contains(s.args, "") && s.most >= 0 && s.name != "status": // which shows all pools without a text
		return fmt.Errorf("%s \"\", want failoverctl %s", s.name, s.synopsis())
	case s.output != "text" && s.output != "json":
		return fmt.Errorf("-o %q, want text or json", s.output)
	}
	return s.run(ctx, s)
}

// newFlags are the flags that stand before a command or behind it.
func newFlags(name string, o *options, getenv func(string) string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.server, "server", or(getenv("FAILOVER_SERVER"), "http://127.0.0.1:9054"), "`URL` of the server: http://, https:// or unix:///PATH")
	fs.StringVar(&o.token, "token", getenv("FAILOVER_TOKEN"), "`FILE` with the token that changes need")
	fs.StringVar(&o.output, "o", "text", "`FORMAT` of what is printed: text, or json for programs")
	return fs
}

// commandFlags are the flags of the session's command. What stood before the command is their default.
func (s *session) commandFlags() *flag.FlagSet {
	before := s.options
	fs := newFlags(s.name, &s.options, s.Getenv)
	s.options = before
	if s.flags != nil {
		s.flags(fs, &s.options)
	}
	return fs
}

// parse reads arguments with flags before, between and behind them.
func parse(fs *flag.FlagSet, args []string) ([]string, error) {
	var found []string
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		rest := fs.Args()
		if read := len(args) - len(rest); len(rest) == 0 || read > 0 && args[read-1] == "--" {
			return append(found, rest...), nil
		}
		found, args = append(found, rest[0]), rest[1:]
	}
}

// usage is an error in the flags, or what -h asks for.
func (s *session) usage(err error) error {
	if !errors.Is(err, flag.ErrHelp) {
		if s.command != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
		}
		return err
	}
	s.args = nil
	if s.command != nil {
		s.args = []string{s.name}
	}
	_ = help(context.Background(), s)
	return err
}

// synopsis is the command with its arguments.
func (c *command) synopsis() string {
	return strings.TrimSpace(c.name + " " + c.args)
}

func names() []string {
	all := commands()
	words := make([]string, len(all))
	for i, c := range all {
		words[i] = c.name
	}
	return words
}

// help says what there is.
func help(_ context.Context, s *session) error {
	if len(s.args) == 0 {
		s.say.printf("Usage: failoverctl [FLAGS] COMMAND\n\n")
		t := table{}
		for _, c := range commands() {
			t.add(plain("  "+c.synopsis()), plain(c.does))
		}
		s.say.table(t)
		s.say.printf("\nFlags of all commands, which may stand behind them, too:\n")
		s.say.flags(newFlags("", new(options), s.Getenv))
		return nil
	}
	for _, c := range commands() {
		if c.name == s.args[0] {
			s.command = c
			s.say.printf("Usage: failoverctl %s [FLAGS]\n\n%s %s.\n\n", c.synopsis(), c.name, c.does)
			s.say.flags(s.commandFlags())
			return nil
		}
	}
	return fmt.Errorf("unknown command %q, want one of %s", s.args[0], strings.Join(names(), ", "))
}

// version says which failoverctl this is.
func version(_ context.Context, s *session) error {
	if s.output == "json" {
		return s.say.json(map[string]string{"version": failover.Version})
	}
	s.say.printf("failoverctl %s\n", failover.Version)
	return nil
}

func or(word, otherwise string) string {
	if word != "" {
		return word
	}
	return otherwise
}
