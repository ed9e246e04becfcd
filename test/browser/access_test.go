package browser

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
)

// node is what a screen reader is told of one element.
type node struct {
	role, name, live string
}

// spoken is what a screen reader is told of the page.
func spoken(b *tab) (nodes []node) {
	b.t.Helper()
	text := func(v *accessibility.Value) (s string) {
		if v != nil {
			_ = json.Unmarshal(v.Value, &s) // what is no text stays ""
		}
		return s
	}
	for _, n := range call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if n.Ignored {
			continue
		}
		is := node{role: text(n.Role), name: text(n.Name)}
		for _, p := range n.Properties {
			if p.Name == "live" {
				is.live = text(p.Value)
			}
		}
		nodes = append(nodes, is)
	}
	return nodes
}

// troubled is a server with one pool on its fallback, one on its backup and one that is well.
func troubled(t *testing.T) *server {
	t.Helper()
	up, down := listen(t, "127.0.0.2:0"), listen(t, "127.0.0.3:0")
	down.Close()
	return start(t, fmt.Sprintf("failover a.example.org fra1=%[2]s\nfailover b.example.org fra1=%[2]s {\nbackup ams1=%[1]s\n}\nfailover c.example.org ams1=%[1]s", up, down))
}

// Whoever cannot see the page is told as much: by landmarks, headings, names, and what changes by itself.
func TestScreenReader(t *testing.T) {
	s := troubled(t)
	b := open(t, s.page, look{})
	b.until(`document.title.startsWith("1 pool on fallback, 1 on backup") && row("a.example.org.").querySelector(".member")`)
	nodes := spoken(b)
	has := func(want node) {
		t.Helper()
		if !slices.ContainsFunc(nodes, func(n node) bool {
			return n.role == want.role && strings.Contains(n.name, want.name) && (want.live == "" || n.live == want.live)
		}) {
			t.Errorf("No %+v is among what is told: %+v", want, nodes)
		}
	}
	for _, role := range []string{"banner", "navigation", "main", "contentinfo", "search"} {
		has(node{role: role})
	}
	for _, heading := range []string{"1 pool on fallback, 1 on backup", "Not well", "Well", "a.example.org.", "c.example.org.", "Primary"} {
		has(node{role: "heading", name: heading})
	}
	has(node{role: "status", name: "Summary", live: "polite"})
	has(node{role: "log", name: "Latest transition", live: "polite"})
	has(node{role: "searchbox", name: "Search names, labels, addresses"})
	has(node{role: "checkbox", name: "Only what is not well"})
	has(node{role: "button", name: "Change fra1 127.0.0.3"})
	has(node{role: "image", name: "none passed"})
	for _, word := range []string{"fallback", "down", "0 of 1 up"} {
		has(node{role: "StaticText", name: word})
	}
	named := func() {
		t.Helper()
		for _, n := range nodes {
			if slices.Contains([]string{"button", "link", "textbox", "searchbox", "checkbox", "radio", "combobox", "image", "dialog", "heading"}, n.role) && n.name == "" {
				t.Errorf("A %s has no name", n.role)
			}
		}
	}
	named()

	// What ticks is not read out.
	if eval[bool](b, `[...document.querySelectorAll("[aria-live], [role=status], [role=log], [role=alert]")].some(e => e.querySelector("time"))`) {
		t.Error("A time that ticks is read out")
	}

	// All of it without a mouse.
	b.press("/")
	b.until(`document.activeElement.id === "q"`)
	b.press("c.example")
	b.until(`!row("a.example.org.") && row("c.example.org.")`)
	b.press("\x1b")
	b.until(`row("a.example.org.") && document.getElementById("q").value === ""`)
	b.press("\t")
	b.until(`document.activeElement === row("a.example.org.").querySelector("h3 button") && document.activeElement.getAttribute("aria-expanded") === "true"`)
	if !eval[bool](b, `getComputedStyle(document.activeElement, "::after").outlineStyle === "solid"`) {
		t.Error("The focus is not to be seen")
	}
	b.press("\r")
	b.until(`document.activeElement.getAttribute("aria-expanded") === "false" && row("a.example.org.").querySelector(".body").hidden`)
	b.press("\r")
	b.press("\t")
	b.until(`document.activeElement === row("a.example.org.").querySelector(".acts button")`)
	b.press(" ")
	b.until(`document.getElementById("hand").open`)
	nodes = spoken(b)
	has(node{role: "dialog", name: "fra1 127.0.0.3"})
	for _, name := range []string{"Drain", "Hold down", "Hold up", "Clear", "In this pool", "All members labelled fra1"} {
		has(node{role: "radio", name: name})
	}
	named()
	b.press("\x1b")
	b.until(`!document.getElementById("hand").open && document.activeElement === row("a.example.org.").querySelector(".acts button")`)
}

// faint are the texts in sight that stand out less from their ground than WCAG's AA asks for. What cannot be pressed is
// exempt.
const faint = `(() => {
	const parse = c => { const [r, g, b, a = 1] = c.match(/[\d.]+/g).map(Number); return {r, g, b, a}; };
	const over = (c, d) => ({r: c.r * c.a + d.r * (1 - c.a), g: c.g * c.a + d.g * (1 - c.a), b: c.b * c.a + d.b * (1 - c.a), a: 1});
	const light = c => { const f = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; return .2126 * f(c.r) + .7152 * f(c.g) + .0722 * f(c.b); };
	const ground = e => { const c = e ? parse(getComputedStyle(e).backgroundColor) : {r: 255, g: 255, b: 255, a: 1}; return c.a === 1 ? c : over(c, ground(e.parentElement)); };
	const out = new Map(), scope = document.querySelector("dialog[open]") || document.body;
	const walk = document.createTreeWalker(scope, NodeFilter.SHOW_TEXT);
	let least = 99, seen = 0;
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.data.trim() || !e.checkVisibility({visibilityProperty: true}) || e.closest("button:disabled, noscript, script, style, .only-read, .skip, svg, option")) continue;
		const style = getComputedStyle(e), at = ground(e), a = light(over(parse(style.color), at)), b = light(at);
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05), large = parseFloat(style.fontSize) >= 24;
		seen++;
		least = Math.min(least, ratio);
		if (ratio < (large ? 3 : 4.5)) out.set(e.className + " " + style.color, ratio.toFixed(2) + ": " + e.textContent.slice(0, 40));
	}
	return {seen, least, faint: [...out.values()]};
})()`

// The page is legible in light and in dark colours, on a wide screen and on a telephone, and stands still where that is
// asked for.
func TestSight(t *testing.T) {
	s := troubled(t)
	b := open(t, s.page, look{})
	b.until(`document.title.startsWith("1 pool on fallback, 1 on backup") && row("b.example.org.").querySelector(".member")`)
	var brightness []float64
	for _, how := range []look{{}, {dark: true}, {width: 375}, {dark: true, width: 375}} {
		b.look(how)
		for _, view := range []string{"now", "day", "dialog"} {
			name := fmt.Sprintf("%s-dark=%v-width=%d", view, how.dark, how.width)
			switch view {
			case "dialog":
				eval[any](b, `location.hash = "#now"`)
				b.until(`!document.getElementById("now").hidden`)
				b.click(`document.querySelector(".acts button")`)
				b.until(`document.getElementById("hand").open`)
			default:
				eval[any](b, `location.hash = "#`+view+`"`)
				b.until(`!document.getElementById("` + view + `").hidden`)
			}
			got := eval[struct {
				Seen  int      `json:"seen"`
				Least float64  `json:"least"`
				Faint []string `json:"faint"`
			}](b, faint)
			t.Logf("%s: %d texts, the faintest with a contrast of %.2f", name, got.Seen, got.Least)
			if len(got.Faint) > 0 || got.Seen < 10 {
				t.Errorf("%s: of %d texts these are faint: %q", name, got.Seen, got.Faint)
			}
			if wide := eval[int](b, "document.documentElement.scrollWidth - innerWidth"); wide > 0 {
				t.Errorf("%s: %d pixels stick out", name, wide)
			}
			picture := b.shot(name)
			if view == "now" {
				brightness = append(brightness, mean(t, picture))
			}
			if view == "dialog" {
				b.press("\x1b")
				b.until(`!document.getElementById("hand").open`)
			}
		}
	}
	if brightness[0] < .7 || brightness[1] > .3 {
		t.Errorf("Light is %.2f bright and dark %.2f, want more than 0.7 and less than 0.3", brightness[0], brightness[1])
	}
	const moves = `(row("a.example.org.").dataset.changed = "odd", getComputedStyle(row("a.example.org.").querySelector(".line")).animationName)`
	if got := eval[string](b, moves); got != "odd" {
		t.Errorf("The animation of a change is %q, want odd", got)
	}
	b.look(look{still: true})
	if got := eval[string](b, moves); got != "none" {
		t.Errorf("The animation of a change is %q where no motion is wanted", got)
	}
}

// mean is how bright a picture is, from 0 to 1.
func mean(t *testing.T, picture []byte) float64 {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	var sum, n float64
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y += 5 {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x += 5 {
			r, g, bl, _ := img.At(x, y).RGBA()
			sum += float64(r+g+bl) / 3 / 0xffff
			n++
		}
	}
	return sum / n
}

// containsAll says whether all parts are in a text.
func containsAll(text string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) })
}
