// Package browser tests the status page in a browser: a Chromium without a window looks at the program's own page, and
// does with it what a person would.
//
// Both see the loopback interface only. The tests run one after the other, since some of them take the time.
package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var (
	program = flag.String("coredns", "../../coredns", "the program")
	shots   = flag.String("shots", "", "a folder for pictures of what was seen")
)

// chromium is the browser, which all tests share.
var chromium context.Context

func TestMain(m *testing.M) {
	flag.Parse()
	path, err := exec.LookPath("chromium")
	if err != nil {
		fmt.Fprintln(os.Stderr, "None of these tests can run:", err)
		if os.Getenv("CI") != "" {
			os.Exit(1)
		}
		os.Exit(0)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE "+home),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("no-pings", true),
		chromedp.Flag("lang", "en-GB"),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it does not start as root otherwise
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	chromium, _ = chromedp.NewContext(allocator)
	if err = chromedp.Do(chromium); err != nil {
		fmt.Fprintln(os.Stderr, "Chromium does not start:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := chromedp.Cancel(chromium); err != nil {
		fmt.Fprintln(os.Stderr, "Chromium does not end:", err)
	}
	stop()
	os.Exit(code)
}

// home is where the server and its page are.
const home = "127.0.0.1"

// token lets the tests change something.
const token = "a-token-for-the-tests-only"

// server is a CoreDNS of a test's own, with its page.
type server struct {
	t        *testing.T
	page     string // its URL
	readOnly string // that of the same page where nothing can be changed
	corefile string
	command  *exec.Cmd
	said     bytes.Buffer
}

// start starts a CoreDNS, which ends with the test. The lines stand in one server block.
func start(t *testing.T, lines string) *server {
	t.Helper()
	dir, open, closed := t.TempDir(), free(t), free(t)
	s := &server{t: t, page: "http://" + open + "/", readOnly: "http://" + closed + "/", corefile: filepath.Join(dir, "Corefile")}
	secret := filepath.Join(dir, "token")
	write(t, secret, token+"\n")
	write(t, s.corefile, fmt.Sprintf(`example.org:0 {
    bind %s
    failover {
        status %s token %s
        status %s
        interval 1s
        recheck 100ms
        timeout 1s
        fall 2
    }
%s
}
`, home, open, secret, closed, lines))
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("CoreDNS said:\n%s", s.said.String()[max(0, s.said.Len()-3000):])
		}
	})
	s.run()
	return s
}

// run starts the program and waits for its page.
func (s *server) run() {
	s.t.Helper()
	s.command = exec.Command(*program, "-conf", s.corefile)
	s.command.Stdout, s.command.Stderr = &s.said, &s.said
	if err := s.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	within(s.t, 20*time.Second, "the page is served", func() bool {
		r, err := http.Get(s.page)
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

// stop ends the program without giving it the time to say goodbye to anybody.
func (s *server) stop() {
	if s.command != nil {
		_ = s.command.Process.Kill()
		_ = s.command.Wait()
		s.command = nil
	}
}

// get decodes what the server answers.
func (s *server) get(path string, into any) {
	s.t.Helper()
	r, err := http.Get(s.page + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
}

// member is a listener that probes pass at, until it is closed.
type member struct {
	net.Listener
}

// listen opens a member on a loopback address, with a port of its own.
func listen(t *testing.T, address string) member {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return member{l}
}

func (m member) String() string { return m.Addr().String() }

// given is the last port that free gave. They are below those that the system gives to connections and to who asks for
// none: one of those could be given twice.
var given atomic.Uint32

func init() { given.Store(20_000 + rand.Uint32N(10_000)) }

// free is an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	for range 100 {
		if l, err := net.Listen("tcp", fmt.Sprint(home, ":", given.Add(1))); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("none of 100 ports is free")
	return ""
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// within waits for a condition to come true.
func within(t *testing.T, bound time.Duration, what string, condition func() bool) {
	t.Helper()
	for begin := time.Now(); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > bound {
			t.Fatalf("Not within %v: %s", bound, what)
		}
	}
}

// tab is one page in the browser.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	requests []string // guarded by mu
}

// look is how a page is looked at. The zero value is a wide screen in light colours.
type look struct {
	dark, still bool
	width       int64
}

// begun is what each page is given before its own script: it notes what the page does to its policy, when there are how
// many rows, and has the words in which the tests ask.
const begun = `
window.violations = [];
document.addEventListener("securitypolicyviolation", e => violations.push(e.violatedDirective + " " + e.blockedURI + " " + e.sample));
window.row = name => [...document.querySelectorAll(".pool")].find(li => li.querySelector("h3 button").textContent === name);
window.button = name => [...document.querySelectorAll("button")].find(b => (b.getAttribute("aria-label") || b.textContent) === name);
window.seen = {};
window.noteWhen = (name, condition) => new MutationObserver((_, o) => { if (condition()) { seen[name] = {at: Date.now(), after: performance.now()}; o.disconnect(); } })
  .observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
noteWhen("first", () => document.querySelector(".pool"));
`

// open opens a page in a tab, which is closed with the test. Whatever goes wrong in the page's script fails the test.
func open(t *testing.T, url string, how look) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(chromium)
	b := &tab{t: t, ctx: ctx}
	said := make(chan struct{}) // closed when the console has nothing more to say
	t.Cleanup(func() {
		if t.Failed() {
			b.shot("failed-" + t.Name())
		}
		closeTab()
		<-said
	})
	console := chromedp.Console(ctx)
	go func() { // ends with the tab
		defer close(said)
		for m, err := range console {
			if err != nil {
				return
			}
			if m.IsException() {
				t.Errorf("The page's script: %s, line %d", m, m.Line)
			}
		}
	}()
	b.must(chromedp.Listen(ctx, func(event any) {
		if sent, ok := event.(*network.EventRequestWillBeSent); ok {
			b.mu.Lock()
			b.requests = append(b.requests, sent.Request.URL)
			b.mu.Unlock()
		}
	}))
	b.look(how)
	call(b, network.Enable, network.EnableParams{})
	call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: begun})
	b.must(chromedp.Do(ctx, chromedp.Navigate(url)))
	return b
}

// look changes how the page is looked at.
func (b *tab) look(how look) {
	b.t.Helper()
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "light"}, {Name: "prefers-reduced-motion", Value: "no-preference"}}
	if how.dark {
		features[0].Value = "dark"
	}
	if how.still {
		features[1].Value = "reduce"
	}
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
	width := how.width
	if width == 0 {
		width = 1280
	}
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: 900, DeviceScaleFactor: 1, Mobile: width < 500,
	})
}

// call runs a command of the protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	r, err := chromedp.Call(b.ctx, command, params)
	b.must(err)
	return r
}

func (b *tab) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// eval is the value of an expression, or what it promises.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for an expression to be true in the page.
func (b *tab) until(expression string) {
	b.t.Helper()
	const bound = 15 * time.Second
	met := eval[bool](b, fmt.Sprintf(`(async () => {
		for (const end = Date.now() + %d; Date.now() < end; await new Promise(done => setTimeout(done, 10))) {
			try { if (%s) return true; } catch { /* it is not there yet */ }
		}
		return false;
	})()`, bound.Milliseconds(), expression))
	if !met {
		b.t.Fatalf("Not within %v: %s\nThe page says:\n%s", bound, expression, eval[string](b, "document.body.innerText"))
	}
}

// press presses keys, wherever the focus is. A key and its character are one event, as they are on a keyboard, so that
// what is prevented is not typed.
func (b *tab) press(keys string) {
	b.t.Helper()
	for _, r := range keys {
		var down *input.DispatchKeyEventParams
		for _, e := range kb.Encode(r) {
			switch e.Type {
			case kb.KeyDown:
				down = e
				continue
			case kb.KeyChar:
				down.Text, down.UnmodifiedText = e.Text, e.UnmodifiedText
				continue
			}
			call(b, input.DispatchKeyEvent, *down)
			call(b, input.DispatchKeyEvent, *e)
		}
	}
}

// click clicks on what an expression names, as a mouse does, once it stands still and nothing is in front of it.
func (b *tab) click(element string) {
	b.t.Helper()
	at := eval[[]float64](b, fmt.Sprintf(`(async () => {
		for (let was = "", end = Date.now() + 10000; Date.now() < end; await new Promise(requestAnimationFrame)) {
			const e = %s;
			if (!e) continue;
			e.scrollIntoView({block: "center", behavior: "instant"});
			const r = e.getBoundingClientRect(), x = r.left + r.width / 2, y = r.top + r.height / 2;
			if (was === [x, y].join() && e.contains(document.elementFromPoint(x, y))) return [x, y];
			was = [x, y].join();
		}
		return [];
	})()`, element))
	if len(at) == 0 {
		b.t.Fatalf("Nothing to click on: %s", element)
	}
	b.must(chromedp.Do(b.ctx, chromedp.MouseClickXY(at[0], at[1])))
}

// fill types into the field with an ID.
func (b *tab) fill(id, text string) {
	b.t.Helper()
	eval[any](b, fmt.Sprintf(`document.getElementById(%q).focus()`, id))
	b.press(text)
}

// asked are the URLs that the page has asked for.
func (b *tab) asked() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.requests)
}

// shot keeps a picture where somebody wants one, and returns it.
func (b *tab) shot(name string) []byte {
	b.t.Helper()
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Errorf("No picture: %v", err)
	}
	if *shots != "" && err == nil {
		write(b.t, filepath.Join(*shots, strings.ReplaceAll(name, "/", "-")+".png"), string(png))
	}
	return png
}
