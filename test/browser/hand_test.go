package browser

import (
	"fmt"
	"testing"
)

// An operator drains the last usable member: the page asks for the token, says what would come of it, lets it be done
// only when that has been read, and lets it be cleared again.
func TestDrain(t *testing.T) {
	first, second := listen(t, "127.0.0.2:0"), listen(t, "127.0.0.3:0")
	s := start(t, fmt.Sprintf("failover www.example.org fra1=%s {\nbackup ams1=%s\n}\nfailover one.example.org fra1=%s", first, second, first))
	b := open(t, s.page, look{})
	b.until(`document.title.startsWith("All well") && row("one.example.org.").querySelector(".member")`)

	// In its own pool it has a backup: nothing is to be warned of.
	b.click(fmt.Sprintf(`button("Change fra1 %s in www.example.org.")`, first))
	b.until(`document.getElementById("hand").open && document.activeElement.id === "token"`)
	if !eval[bool](b, `document.getElementById("go").disabled`) {
		t.Error("It can be done before there is a token")
	}
	b.fill("token", "a-wrong-token-of-sufficient-length\r")
	b.until(`!document.getElementById("token-wrong").hidden`)
	b.fill("token", token+"\r")
	b.until(`document.getElementById("outcome").innerText.includes("127.0.0.2 (primary)→127.0.0.3 (backup)")`)
	if eval[bool](b, `!document.getElementById("sure").hidden || document.getElementById("go").disabled`) {
		t.Error("A drain that leaves a backup wants to be confirmed twice, or cannot be done")
	}

	// There is no state, so it ends with the process.
	b.until(`document.getElementById("outcome").innerText.includes("does not survive a restart of the server: the Corefile has no state")`)

	// Everywhere it is the last one of a pool.
	b.click(`document.querySelector("input[name=where][value=member]")`)
	b.until(`!document.getElementById("sure").hidden && document.getElementById("outcome").innerText.includes("one.example.org. would be left without a usable tier")`)
	if !eval[bool](b, `document.getElementById("go").disabled`) {
		t.Error("The last usable member can be drained without a further word")
	}
	b.shot("last-usable")
	b.press("\x1b")
	b.until(`!document.getElementById("hand").open && document.activeElement === ` + fmt.Sprintf(`button("Change fra1 %s in www.example.org.")`, first))

	// Now for good.
	b.press("\r")
	b.until(`document.getElementById("hand").open && document.getElementById("token-part").hidden`)
	b.click(`document.querySelector("input[name=where][value=label]")`)
	b.until(`!document.getElementById("sure").hidden`)
	const reason = `<img src=x onerror="violations.push('script in a reason')">new disks`
	b.fill("reason", reason)
	b.fill("author", "alice")
	eval[any](b, `{ const e = document.getElementById("until"); e.value = "1h"; e.dispatchEvent(new Event("change", {bubbles: true})); }`)
	b.until(`!document.getElementById("sure").hidden && document.getElementById("go").disabled`)
	b.click(`document.getElementById("sure-box")`)
	b.until(`!document.getElementById("go").disabled`)
	b.click(`document.getElementById("go")`)
	b.until(`!document.getElementById("hand").open && row("www.example.org.").querySelector(".override").innerText.includes("Drained by alice: <img")`)
	b.until(`row("one.example.org.").innerText.includes("drained") && row("one.example.org.").innerText.includes("fallback")`)
	b.click(`document.querySelector("nav a[href='#day']")`)
	b.until(`/Drained: label fra1, by alice/.test(document.getElementById("happened").textContent)`)
	b.click(`document.querySelector("nav a[href='#now']")`)
	b.until(`document.getElementById("counts").textContent.includes("1 override")`)
	if text := eval[string](b, `row("www.example.org.").querySelector(".override").innerText`); !containsAll(text, "label fra1", "ends in ", " min", reason) {
		t.Errorf("The override is shown as %q, want its label, its end and its reason", text)
	}
	if n := eval[int](b, `document.querySelectorAll("img").length + violations.length`); n > 0 {
		t.Error("What comes from outside was taken as HTML")
	}
	var said struct {
		Overrides []struct{ Action, Label, Author, Reason, Until string }
	}
	s.get("api/v1/overrides", &said)
	if len(said.Overrides) != 1 || said.Overrides[0].Label != "fra1" || said.Overrides[0].Action != "drain" || said.Overrides[0].Reason != reason || said.Overrides[0].Until == "" {
		t.Errorf("The server has %+v, want the drain that was asked for", said.Overrides)
	}
	b.shot("drained")

	// And back. The name is remembered, the choice is the one that is there to be cleared.
	b.click(fmt.Sprintf(`button("Change fra1 %s in one.example.org.")`, first))
	b.until(`document.querySelector("input[name=action][value=clear]").checked && document.querySelector("input[name=where][value=label]").checked`)
	b.until(`document.getElementById("author").value === "alice" && document.getElementById("outcome").innerText.includes("one.example.org.") && !document.getElementById("go").disabled`)
	b.click(`document.getElementById("go")`)
	b.until(`!document.getElementById("hand").open && document.title.startsWith("All well") && !document.getElementById("counts").textContent.includes("override")`)
	s.get("api/v1/overrides", &said)
	if len(said.Overrides) != 0 {
		t.Errorf("The server has %+v, want none", said.Overrides)
	}
}

// Where nothing can be changed there is nothing to press.
func TestReadOnly(t *testing.T) {
	first := listen(t, "127.0.0.2:0")
	s := start(t, fmt.Sprintf("failover www.example.org %s", first))
	b := open(t, s.readOnly, look{})
	b.until(`row("www.example.org.").querySelector(".member")`)
	if eval[bool](b, `[...document.querySelectorAll(".acts")].some(e => !e.hidden)`) {
		t.Error("There is a button where nothing can be changed")
	}
}

// A member that came back waits for the operator, who lets it back.
func TestLetBack(t *testing.T) {
	first, second := listen(t, "127.0.0.2:0"), listen(t, "127.0.0.3:0")
	address := first.String()
	s := start(t, fmt.Sprintf("failover www.example.org %s {\nbackup %s\nfailback manual\n}", first, second))
	b := open(t, s.page, look{})
	b.until(`document.title.startsWith("All well")`)
	first.Close()
	b.until(`document.title.startsWith("1 pool on backup")`)
	listen(t, address)
	b.until(`row("www.example.org.").innerText.includes("waits to be let back")`)
	b.click(fmt.Sprintf(`button("Let back %s in www.example.org.")`, address))
	b.until(`document.activeElement.id === "token"`)
	b.fill("token", token+"\r")
	b.until(`document.getElementById("go").textContent === "Let back" && !document.getElementById("go").disabled`)
	b.shot("let-back")
	b.click(`document.getElementById("go")`)
	b.until(`document.title.startsWith("All well") && row("www.example.org.").innerText.includes("primary")`)
}

// A member becomes the last usable one while the dialog is open. The server refuses what it has not warned of, and the
// page asks once more.
func TestLastUsableMeanwhile(t *testing.T) {
	first, second := listen(t, "127.0.0.2:0"), listen(t, "127.0.0.3:0")
	s := start(t, fmt.Sprintf("failover www.example.org %s {\nbackup %s\n}", first, second))
	b := open(t, s.page, look{})
	b.until(`document.title.startsWith("All well")`)
	b.click(fmt.Sprintf(`button("Change %s in www.example.org.")`, first))
	b.until(`document.activeElement.id === "token"`)
	b.fill("token", token+"\r")
	b.until(`document.getElementById("outcome").innerText.includes("127.0.0.3 (backup)") && !document.getElementById("go").disabled`)
	second.Close()
	b.until(`row("www.example.org.").querySelectorAll(".member")[1].innerText.includes("down")`)
	b.click(`document.getElementById("go")`)
	b.until(`!document.getElementById("sure").hidden && document.getElementById("go").disabled && document.activeElement.id === "sure-box"`)
	var said struct{ Overrides []struct{ Action string } }
	if s.get("api/v1/overrides", &said); len(said.Overrides) > 0 {
		t.Errorf("The server has %+v before it was confirmed", said.Overrides)
	}
	b.press(" ")
	b.until(`!document.getElementById("go").disabled`)
	b.click(`document.getElementById("go")`)
	b.until(`!document.getElementById("hand").open && document.title.startsWith("1 pool on fallback")`)
	if s.get("api/v1/overrides", &said); len(said.Overrides) != 1 {
		t.Errorf("The server has %+v, want the drain", said.Overrides)
	}
}
