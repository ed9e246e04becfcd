package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
)

// problem writes an error (RFC 9457).
func problem(w http.ResponseWriter, code int, detail string) {
	write(w, Problem{Type: "about:blank", Title: http.StatusText(code), Status: code, Detail: detail})
}

func write(w http.ResponseWriter, p Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// lastUsable is the type of the problem that a decision would leave a pool without a usable tier.
const lastUsable = "#last-usable"

// failed writes the error of a Source.
func failed(w http.ResponseWriter, err error, outcome Outcome) {
	switch {
	case errors.Is(err, ErrBare):
		write(w, Problem{Type: lastUsable, Title: "Last usable member", Status: http.StatusConflict,
			Detail: "a pool would be left without a usable tier; force=true does it all the same", Outcome: &outcome})
	case errors.Is(err, ErrNotFound):
		problem(w, http.StatusNotFound, err.Error())
	default:
		problem(w, http.StatusUnprocessableEntity, err.Error())
	}
}

// list writes a document with items, one by one: there may be more of them than fit into memory once for each client.
func list[T any](w http.ResponseWriter, before string, items iter.Seq[T], after string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	between := before + "["
	for item := range items {
		data, err := json.Marshal(item)
		if err != nil {
			panic(http.ErrAbortHandler) // half a document is none
		}
		if _, err := fmt.Fprintf(w, "%s%s", between, data); err != nil {
			return
		}
		between = ","
	}
	if between != "," {
		io.WriteString(w, between)
	}
	fmt.Fprintf(w, "]%s\n", after) //nolint:gosec // it is JSON, and is said to be
}

// answer writes a document.
func answer(w http.ResponseWriter, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(document)
}
