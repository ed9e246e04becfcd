package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
)

const (
	// patience is how long a server may take for an answer: it has all that it says in memory.
	patience = 10 * time.Second

	// most bounds one answer, in bytes: ten thousand pools of some ten members.
	most = 128 << 20
)

// client asks one server. Its methods may be called at once.
type client struct {
	word  string // the server, as the user has it
	base  *url.URL
	http  *http.Client
	token string // name of a file; "": none
}

// client is for the server that the session is about.
func (s *session) client() (*client, error) { return newClient(s.server, s.token) }

func newClient(server, token string) (*client, error) {
	u, err := url.Parse(server)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("server %q, want a URL such as http://127.0.0.1:9054 or unix:///run/failover.sock", server)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10}
	switch {
	case u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		path := u.Path
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		u = &url.URL{Scheme: "http", Host: "localhost"}
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
	default:
		return nil, fmt.Errorf("server %q, want a URL such as http://127.0.0.1:9054 or unix:///run/failover.sock", server)
	}
	return &client{
		word:  server,
		base:  u,
		token: token,
		http: &http.Client{
			Transport: transport,
			// A redirect would take the token to whoever it names.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// request begins a request. path has its segments escaped.
func (c *client) request(ctx context.Context, method, path string, query url.Values, body any) (*http.Request, error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(b)
	}
	u := c.base.JoinPath("/api/v1/" + path)
	u.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, method, u.String(), content)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json, application/problem+json")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, nil
}

// segment is a word as one segment of a path. Dots alone would be taken as a step in the path, by ourselves for one.
func segment(word string) string {
	if strings.Trim(word, ".") == "" {
		return strings.ReplaceAll(word, ".", "%2E")
	}
	return url.PathEscape(word)
}

// get reads one document.
func (c *client) get(ctx context.Context, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := c.request(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	return c.do(r, into)
}

// change sets an override, or ends one where change is nil.
func (c *client) change(ctx context.Context, path string, query url.Values, change *api.Change) (*api.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	method, body := http.MethodDelete, any(nil)
	if change != nil {
		method, body = http.MethodPut, change
	}
	r, err := c.request(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		b, err := os.ReadFile(c.token)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		line, _, _ := strings.Cut(string(b), "\n") // as the server reads it
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(line))
	}
	outcome := new(api.Outcome)
	return outcome, c.do(r, outcome)
}

// do sends a request, and reads its answer.
func (c *client) do(r *http.Request, into any) error {
	answer, err := c.http.Do(r)
	if err != nil {
		return c.unreachable(r.Context(), err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return c.problem(answer)
	}
	if kind := mediaType(answer); kind != "application/json" {
		return c.stranger(answer)
	}
	b, err := io.ReadAll(io.LimitReader(answer.Body, most+1))
	switch {
	case err != nil:
		return c.unreachable(r.Context(), err)
	case len(b) > most:
		return fmt.Errorf("%s sends more than %d MB at once, want less", c.word, most>>20)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s sends what cannot be read: %w", c.word, err)
	}
	return nil
}

func mediaType(answer *http.Response) string {
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	return kind
}

// stranger is an answer that no server of ours gives.
func (c *client) stranger(answer *http.Response) error {
	return fmt.Errorf("%s answers %s with %s, want JSON: is this the status ADDRESS of a CoreDNS with failover?",
		c.word, answer.Status, or(mediaType(answer), "nothing"))
}

// A problem is an error that the server has told.
type problem struct {
	api.Problem
	client *client
}

// problem reads an error of the server.
func (c *client) problem(answer *http.Response) error {
	if mediaType(answer) != "application/problem+json" {
		return c.stranger(answer)
	}
	p := &problem{client: c}
	if err := json.NewDecoder(io.LimitReader(answer.Body, most)).Decode(&p.Problem); err != nil {
		return fmt.Errorf("%s answers %s, and its reason cannot be read: %w", c.word, answer.Status, err)
	}
	p.Status = answer.StatusCode
	return p
}

func (p *problem) Error() string {
	said := or(p.Detail, or(p.Title, strconv.Itoa(p.Status)))
	if p.Status == http.StatusUnauthorized {
		if p.client.token == "" {
			return p.client.word + " wants a token for that: name its file with -token or FAILOVER_TOKEN, or go by the server's unix socket"
		}
		return fmt.Sprintf("%s does not take the token in %s: %s", p.client.word, p.client.token, said)
	}
	return said
}

// isBare says whether an error is that a pool would be left without a usable tier.
func isBare(err error) (*problem, bool) {
	p, ok := errors.AsType[*problem](err)
	return p, ok && p.Status == http.StatusConflict && strings.HasSuffix(p.Type, "#last-usable") && p.Outcome != nil
}

// unreachable is why there is no answer, in words for somebody who has to find the server.
func (c *client) unreachable(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return err
	}
	if inner, ok := errors.AsType[*url.Error](err); ok {
		err = inner.Err
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		err = errno
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer in %s", patience)
	}
	return fmt.Errorf("cannot reach %s: %w; want the ADDRESS of a status line in the server's Corefile, by -server or FAILOVER_SERVER", c.word, err)
}

// pools reads all pools that are asked for, however many there are.
func (c *client) pools(ctx context.Context, query url.Values) (*api.Document, error) {
	all := new(api.Document)
	for {
		query.Set("offset", strconv.Itoa(len(all.Pools)))
		var page api.Document
		if err := c.get(ctx, "pools", query, &page); err != nil {
			return nil, err
		}
		page.Pools = append(all.Pools, page.Pools...)
		got := len(page.Pools) - len(all.Pools)
		all = &page
		if got == 0 || len(all.Pools) >= all.Total {
			return all, nil
		}
	}
}
