package probe

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// An option is what may follow the URL: its name, and the words it takes.
type option struct {
	takes  []string // what the words it takes stand for: FILE, KEYFILE
	may    string   // a word that may follow these; set gets it with them
	repeat bool     // it may be given more than once
	set    func(args []string) error
}

// read gives the words after the URL to the options they name.
func (l line) read(options map[string]option) error {
	if l.watch != nil {
		options = maps.Clone(options)
		if options == nil {
			options = make(map[string]option)
		}
		options["watch"] = option{set: func([]string) error {
			*l.watch = true
			return nil
		}}
	}
	seen := make(map[string]bool)
	for words := l.options; len(words) > 0; {
		name := words[0]
		o, found := options[name]
		if !found {
			want := "none"
			if len(options) > 0 {
				want = "one of " + list(options)
			}
			return fmt.Errorf("unknown option %q for %s, want %s", name, l.url.Scheme, want)
		}
		if seen[name] && !o.repeat {
			return fmt.Errorf("option %q twice, want it once", name)
		}
		seen[name] = true
		n := 1 + len(o.takes)
		if len(words) < n {
			return fmt.Errorf("option %q takes %d words, want %s %s", name, n-1, name, strings.Join(o.takes, " "))
		}
		if o.may != "" && len(words) > n && words[n] == o.may {
			n++
		}
		if err := o.set(words[1:n]); err != nil {
			return err
		}
		words = words[n:]
	}
	return nil
}

// pattern is an option that sets re to the regular expression it takes.
func pattern(name string, re **regexp.Regexp) option {
	return option{takes: []string{"REGEX"}, set: func(args []string) (err error) {
		if args[0] == "" {
			return fmt.Errorf(`%s "", want a regular expression`, name)
		}
		if *re, err = regexp.Compile(args[0]); err != nil {
			return fmt.Errorf("%s %q: %w", name, args[0], err)
		}
		return nil
	}}
}

// duration reads a duration above zero; a bare number is seconds.
func duration(name, word string) (time.Duration, error) {
	s := word
	if s != "" && strings.Trim(s, "0123456789") == "" {
		s += "s"
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s %q, want a duration such as 72h", name, word)
	}
	return d, nil
}

// readFile is the contents of the file that an option names.
func (l line) readFile(option, name string) ([]byte, error) {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(l.root, path)
	}
	// A pipe would be waited for, and a device never ends.
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", option, name, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", option, name, err)
	}
	return text, nil
}

// digest stands for text in a canonical form, where it would be too long or must not be read.
func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}
