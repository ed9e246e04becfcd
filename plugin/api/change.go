package api

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/override"
)

// maxBody bounds the body of a request. A change is a few hundred bytes.
const maxBody = 64 << 10

// mayChange says whether a request may change something. If not it has been answered.
func (s *Server) mayChange(w http.ResponseWriter, r *http.Request) bool {
	l := listenOf(r)
	switch {
	case l.IsSocket():
		return true // whoever may open it is trusted by its mode
	case l.Token == "":
		s.refused(r, "read-only")
		problem(w, http.StatusForbidden, "nothing can be changed here: there is no token, and this is no unix socket")
		return false
	}
	want, err := readToken(l.Token)
	if err != nil {
		s.refused(r, "token-file")
		problem(w, http.StatusForbidden, "nothing can be changed now: "+tokenFault(err))
		return false
	}
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	a, b := sha256.Sum256([]byte(strings.TrimSpace(got))), sha256.Sum256([]byte(want)) // of one length, whatever was sent
	if !strings.EqualFold(scheme, "bearer") || subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		reason := "wrong-token"
		if r.Header.Get("Authorization") == "" {
			reason = "no-token"
		}
		s.refused(r, reason)
		w.Header().Set("WWW-Authenticate", `Bearer realm="failover"`)
		problem(w, http.StatusUnauthorized, "a change takes the token of the server: Authorization: Bearer TOKEN")
		return false
	}
	return true
}

// minToken keeps a token from being guessed.
const minToken = 16

// readToken reads the first line of a file. It is read each time it is needed, so that a new one holds at once.
func readToken(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	token := strings.TrimSpace(line)
	if len(token) < minToken {
		return "", shortToken{len(token), name}
	}
	return token, nil
}

// shortToken is the error of a token that could be guessed.
type shortToken struct {
	length int
	file   string
}

func (e shortToken) Error() string {
	return fmt.Sprintf("token file %s: the token in its first line has %d characters, want %d or more", e.file, e.length, minToken)
}

// tokenFault returns what is wrong with a token file, for a client: without the place of the file.
func tokenFault(err error) string {
	if e, ok := errors.AsType[shortToken](err); ok {
		return fmt.Sprintf("the token in the token file has %d characters, want %d or more", e.length, minToken)
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return "the token file cannot be read: " + e.Err.Error()
	}
	return "the token file cannot be read"
}

// targetOf is the target that the path of a request names.
func targetOf(r *http.Request) override.Target {
	return override.Target{Pool: r.PathValue("pool"), Member: r.PathValue("member"), Label: r.PathValue("label")}
}

// howOf reads how a decision is to be taken. A word that is not known is an error: it may be a misspelt dry-run.
func howOf(query url.Values, further ...string) (how How, err error) {
	known := append([]string{"dry-run", "force", "limit", "offset"}, further...)
	for word := range query {
		if !slices.Contains(known, word) {
			return how, fmt.Errorf("%q in the query, want %s", word, strings.Join(known, ", "))
		}
	}
	if how.Limit, err = number(query, "limit", mostPools); err != nil {
		return how, err
	}
	how.Limit = min(cmp.Or(how.Limit, mostPools), mostPools)
	if how.Offset, err = number(query, "offset", 0); err != nil {
		return how, err
	}
	if how.DryRun, err = flag(query, "dry-run"); err != nil {
		return how, err
	}
	how.Force, err = flag(query, "force")
	return how, err
}

// flag reads true or false; nothing is false.
func flag(query url.Values, word string) (bool, error) {
	switch text := query.Get(word); {
	case !query.Has(word), text == "false":
		return false, nil
	case text == "true":
		return true, nil
	default:
		return false, fmt.Errorf("%s %q, want true or false", word, text)
	}
}

// set answers PUT.
func (s *Server) set(w http.ResponseWriter, r *http.Request) {
	if !s.mayChange(w, r) {
		return
	}
	how, err := howOf(r.URL.Query())
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		problem(w, http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Type %q, want application/json", r.Header.Get("Content-Type")))
		return
	}
	c, err := readChange(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a body of more than %d bytes", tooLarge.Limit))
		return
	}
	if err != nil {
		problem(w, http.StatusBadRequest, "the body is not the JSON of a change: "+err.Error())
		return
	}
	o := override.Override{Target: targetOf(r), Action: c.Action, Reason: c.Reason, Author: c.Author, Since: time.Now().Round(0), Until: c.Until}
	if c.For != "" {
		d, err := time.ParseDuration(c.For)
		switch {
		case err != nil || d <= 0:
			problem(w, http.StatusUnprocessableEntity, fmt.Sprintf("for %q, want a duration such as 90m", c.For))
			return
		case !c.Until.IsZero():
			problem(w, http.StatusUnprocessableEntity, fmt.Sprintf("for %q beside until, want one of them", c.For))
			return
		}
		o.Until = o.Since.Add(d)
	}
	if rest := o.Until.Sub(o.Until.Truncate(time.Second)); rest > 0 {
		o.Until = o.Until.Add(time.Second - rest)
	}
	outcome, err := s.source.Override(o, how)
	if err != nil {
		failed(w, err, outcome)
		return
	}
	answer(w, outcome)
}

// readChange reads a body.
func readChange(body io.Reader) (c Change, err error) {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("something behind the object")
		}
		return c, err
	}
	return c, nil
}

// clear answers DELETE.
func (s *Server) clear(w http.ResponseWriter, r *http.Request) {
	if !s.mayChange(w, r) {
		return
	}
	q := r.URL.Query()
	how, err := howOf(q, "author", "reason")
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	by := By{Author: q.Get("author"), Reason: q.Get("reason")}
	check := override.Override{Target: override.Target{Label: "any"}, Action: override.Drain, Author: by.Author, Reason: by.Reason}
	if err := check.Check(); err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	outcome, err := s.source.Clear(targetOf(r), by, how)
	if err != nil {
		failed(w, err, outcome)
		return
	}
	answer(w, outcome)
}
