package api

import (
	"embed"
	"encoding/json"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

//go:embed page
var pageFiles embed.FS

//go:embed openapi.yaml
var description string

// Server answers requests from a Source and a Journal.
type Server struct {
	source  Source
	journal *Journal
	streams atomic.Int32

	looking sync.Mutex // one look over all pools after the other: they cost processor time that queries need
}

// NewServer returns a server, which is served by [Listeners].
func NewServer(source Source, journal *Journal) *Server {
	return &Server{source: source, journal: journal}
}

// contentPolicy lets the page load scripts and styles from its own server, speak to it, and nothing else. An inline
// script or style is refused.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// contentTypes has the types of the files that the page loads. A file of another type is not served.
var contentTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}

// route is a path, and what is done for each method.
type route struct {
	path    string
	methods map[string]http.HandlerFunc
}

func (s *Server) routes() []route {
	return []route{
		{"/{$}", map[string]http.HandlerFunc{"GET": s.page}},
		{"/api/v1/openapi.yaml", map[string]http.HandlerFunc{"GET": describe}},
		{"/api/v1/pools", map[string]http.HandlerFunc{"GET": s.pools}},
		{"/api/v1/pools/{name}", map[string]http.HandlerFunc{"GET": s.pool}},
		{"/api/v1/events", map[string]http.HandlerFunc{"GET": s.events}},
		{"/api/v1/overrides", map[string]http.HandlerFunc{"GET": s.overrides}},
		{"/api/v1/overrides/pools/{pool}/members/{member}", map[string]http.HandlerFunc{"PUT": s.set, "DELETE": s.clear}},
		{"/api/v1/overrides/members/{member}", map[string]http.HandlerFunc{"PUT": s.set, "DELETE": s.clear}},
		{"/api/v1/overrides/labels/{label}", map[string]http.HandlerFunc{"PUT": s.set, "DELETE": s.clear}},
	}
}

// handler has the routes, behind what keeps other web pages out.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	// The files of the page are no part of the API, so openapi.yaml does not describe them.
	for _, route := range append(s.routes(), route{"/page/{file}", map[string]http.HandlerFunc{"GET": pageFile}}) {
		var allow []string
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			if h := route.methods[method]; h != nil {
				mux.HandleFunc(method+" "+route.path, h)
				allow = append(allow, method)
				if method == "GET" { // the mux takes it for both
					allow = append(allow, "HEAD")
				}
			}
		}
		mux.HandleFunc(route.path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", strings.Join(allow, ", "))
			problem(w, http.StatusMethodNotAllowed, fmt.Sprintf("method %s, want %s", r.Method, strings.Join(allow, " or ")))
		})
	}
	mux.HandleFunc("/", nothing)
	foreign := http.NewCrossOriginProtection()
	foreign.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.refused(r, "foreign-origin")
		problem(w, http.StatusForbidden, "a web page from elsewhere cannot change anything here")
	}))
	return s.guarded(foreign.Handler(mux))
}

// guarded sets what browsers are told, and turns away a browser that has been led here under a name of somebody else's
// (DNS rebinding).
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if l := listenOf(r); !l.IsSocket() && r.TLS == nil && !isOurs(r.Host) { // with TLS the certificate is what tells
			if r.Method == http.MethodPut || r.Method == http.MethodDelete {
				s.refused(r, "foreign-host")
			}
			problem(w, http.StatusForbidden, fmt.Sprintf("host %q, want an address, localhost or the name of this host, or TLS", r.Host))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// isOurs says whether a Host header names this host in a way that nobody else can make lead here.
func isOurs(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	name, err := os.Hostname()
	return err == nil && host == strings.ToLower(name)
}

// nothing answers a request for a path that the server does not have.
func nothing(w http.ResponseWriter, r *http.Request) {
	problem(w, http.StatusNotFound, "there is nothing at "+strconv.Quote(r.URL.Path))
}

func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	servePage(w, r, "index.html", "text/html; charset=utf-8")
}

// pageFile serves a script or a style of the page.
func pageFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	contentType, ok := contentTypes[filepath.Ext(name)]
	if !ok {
		nothing(w, r)
		return
	}
	servePage(w, r, name, contentType)
}

// servePage writes an embedded file under the policy of the page.
func servePage(w http.ResponseWriter, r *http.Request, name, contentType string) {
	text, err := pageFiles.ReadFile("page/" + name)
	if err != nil {
		nothing(w, r)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Security-Policy", contentPolicy)
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(text) //nolint:gosec // it is a file of ours, embedded
}

func describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	fmt.Fprint(w, description)
}

const (
	// usualPools is how many pools are given where nobody says how many, and mostPools how many at most.
	usualPools = 1000
	mostPools  = 10_000
)

// pools answers with the pools that a query asks for.
func (s *Server) pools(w http.ResponseWriter, r *http.Request) {
	q, err := queryOf(r.URL.Query())
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	s.looking.Lock()
	summary := s.source.Summary()
	pools, total := s.source.Pools(q)
	s.looking.Unlock()
	s.document(w, r, summary, pools, total)
}

// queryOf reads which pools somebody wants to see.
func queryOf(query url.Values) (q Query, err error) {
	q = Query{Text: strings.ToLower(query.Get("q"))}
	if q.Unwell, err = flag(query, "unwell"); err != nil {
		return q, err
	}
	if q.Limit, err = number(query, "limit", usualPools); err != nil {
		return q, err
	}
	q.Limit = min(q.Limit, mostPools)
	q.Offset, err = number(query, "offset", 0)
	return q, err
}

// number reads a number that is not negative.
func number(query url.Values, word string, usual int) (int, error) {
	if !query.Has(word) {
		return usual, nil
	}
	n, err := strconv.Atoi(query.Get(word))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s %q, want a number", word, query.Get(word))
	}
	return n, nil
}

// pool answers with the pools that answer for a name.
func (s *Server) pool(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	s.looking.Lock()
	summary := s.source.Summary()
	pools := s.source.PoolsOf(canonical(name))
	s.looking.Unlock()
	if len(pools) == 0 {
		problem(w, http.StatusNotFound, fmt.Sprintf("no pool answers for %q", name))
		return
	}
	s.document(w, r, summary, slices.Values(pools), len(pools))
}

// document writes a Document.
func (s *Server) document(w http.ResponseWriter, r *http.Request, summary Summary, pools iter.Seq[Pool], total int) {
	process := s.source.Process()
	process.Changes = listenOf(r).changes()
	head, err := json.Marshal(struct {
		Server   Process   `json:"server"`
		Summary  Summary   `json:"summary"`
		Warnings []Warning `json:"warnings"`
	}{process, summary, append([]Warning{}, s.source.Warnings()...)})
	if err != nil {
		panic(err) // a time that is none
	}
	list(w, strings.TrimSuffix(string(head), "}")+`,"pools":`, pools, fmt.Sprintf(`,"total":%d}`, total))
}

func (s *Server) overrides(w http.ResponseWriter, _ *http.Request) {
	list(w, `{"overrides":`, slices.Values(s.source.Overrides()), "}")
}
