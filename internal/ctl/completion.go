package ctl

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
)

// scripts have a shell ask failoverctl itself for what comes next: completion words, with the words so far.
var scripts = map[string]string{
	"bash": `# failoverctl completion for bash: source <(failoverctl completion bash)
_failoverctl() {
    local line=${COMP_LINE:0:COMP_POINT} words cur
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cur=${words[-1]}
    mapfile -t COMPREPLY < <(failoverctl completion words -- "${words[@]:1}" 2>/dev/null)
    # Bash takes what stands before a colon for a word of its own.
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local head=${cur%"${cur##*:}"} i
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=${COMPREPLY[i]#"$head"}; done
    fi
}
complete -o default -F _failoverctl failoverctl
`,
	"zsh": `#compdef failoverctl
# failoverctl completion for zsh: source <(failoverctl completion zsh)
_failoverctl() {
    local -a found
    found=(${(f)"$(failoverctl completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#found} )); then compadd -a found; else _files; fi
}
compdef _failoverctl failoverctl
`,
	"fish": `# failoverctl completion for fish: failoverctl completion fish | source
function __failoverctl
    set -l words (commandline -opc) (commandline -ct)
    failoverctl completion words -- $words[2..-1] 2>/dev/null
end
complete -c failoverctl -a '(__failoverctl)'
`,
}

// hurry is how long the server may take for what a person waits for between two keys.
const hurry = 2 * time.Second

// completion prints the script of a shell, or what comes next after some words.
func completion(ctx context.Context, s *session) error {
	if script, ok := scripts[s.args[0]]; ok && len(s.args) == 1 {
		s.say.write(script)
		return nil
	}
	if s.args[0] != "words" {
		return fmt.Errorf("completion %q, want bash, zsh or fish", strings.Join(s.args, " "))
	}
	words := s.args[1:]
	if len(words) == 0 {
		words = []string{""}
	}
	ctx, cancel := context.WithTimeout(ctx, hurry)
	defer cancel()
	last := words[len(words)-1]
	for _, word := range slices.Compact(slices.Sorted(slices.Values(s.next(ctx, words[:len(words)-1], last)))) {
		if strings.HasPrefix(word, last) {
			s.say.printf("%s\n", word)
		}
	}
	return nil
}

// next is what may come after some words, of which last is the beginning.
func (s *session) next(ctx context.Context, before []string, last string) []string {
	typed := &session{World: s.World}
	fs := newFlags("", &typed.options, s.Getenv)
	value := "" // the flag whose value comes next
	for _, word := range before {
		isFlag := strings.HasPrefix(word, "-")
		name, given, hasValue := strings.Cut(strings.TrimLeft(word, "-"), "=")
		switch f := fs.Lookup(name); {
		case value != "":
			_ = fs.Set(value, word)
			value = ""
		case isFlag && f == nil:
		case isFlag && hasValue:
			_ = fs.Set(name, given)
		case isFlag && isBool(f):
			_ = fs.Set(name, "true")
		case isFlag:
			value = name
		case typed.command == nil:
			i := slices.IndexFunc(commands(), func(c *command) bool { return c.name == word })
			if i < 0 {
				return nil
			}
			typed.command = commands()[i]
			fs = typed.commandFlags()
		default:
			typed.args = append(typed.args, word)
		}
	}
	switch {
	case value == "pool":
		return typed.poolNames(ctx, last)
	case value == "o":
		return []string{"json", "text"}
	case value != "":
		return nil
	case strings.HasPrefix(last, "-"):
		var all []string
		fs.VisitAll(func(f *flag.Flag) { all = append(all, "-"+f.Name) })
		return all
	case typed.command == nil:
		return names()
	case len(typed.args) > 0:
		return nil
	}
	switch typed.name {
	case "status", "explain", "watch", "events":
		return typed.poolNames(ctx, last)
	case "drain", "down", "up", "clear":
		return typed.memberNames(ctx, last)
	case "completion":
		return []string{"bash", "fish", "zsh"}
	case "help":
		return names()
	}
	return nil
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// found are the pools with a text in them, as many as a person would look through.
func (s *session) found(ctx context.Context, q string) []api.Pool {
	c, err := s.client()
	if err != nil {
		return nil
	}
	var d api.Document
	if c.get(ctx, "pools", url.Values{"q": {q}, "limit": {"1000"}}, &d) != nil {
		return nil
	}
	return d.Pools
}

// poolNames are the names of pools, without the dot at the end, which nobody types.
func (s *session) poolNames(ctx context.Context, q string) []string {
	var all []string
	for _, p := range s.found(ctx, q) {
		for _, name := range p.Names {
			all = append(all, strings.TrimSuffix(name, "."))
		}
	}
	return all
}

// memberNames are the words for members that the flags so far allow.
func (s *session) memberNames(ctx context.Context, q string) []string {
	var all []string
	if s.pool != "" {
		q = s.pool
	}
	for _, p := range s.found(ctx, q) {
		if s.pool != "" && !slices.Contains(p.Names, fqdn(s.pool)) {
			continue
		}
		for _, t := range p.Tiers {
			for _, m := range t.Members {
				if !s.label {
					all = append(all, m.Address)
				}
				if m.Label != "" && (s.label || s.pool != "") {
					all = append(all, m.Label)
				}
			}
		}
	}
	return all
}
