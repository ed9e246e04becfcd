// Package api serves what a name server answers now, and why: a page for people, JSON and a stream of events for
// programs, and the way in for an operator's decisions.
//
// It knows nothing of DNS. What there is to see and to decide is behind a [Source].
package api

import (
	"time"

	"github.com/coredns-failover/failover/plugin/override"
)

// Document is what GET /api/v1/pools says.
type Document struct {
	Server   Process   `json:"server"`
	Summary  Summary   `json:"summary"`
	Warnings []Warning `json:"warnings"` // failures of the server itself that last; none: an empty array
	Pools    []Pool    `json:"pools"`    // those asked for, by name
	Total    int       `json:"total"`    // how many were asked for; there may be more than are given
}

// Warning is a failure of the server's own side that lasts: no pool has caused it.
type Warning struct {
	Kind  string    `json:"kind"` // one of WarningKinds
	Text  string    `json:"text"`
	Since time.Time `json:"since,omitzero"`
}

// WarningKinds are the kinds of warnings, in the order of a document.
var WarningKinds = []string{"state", "reload", "share", "update", "status", "probe"}

// Process is the name server.
type Process struct {
	Version string    `json:"version"`
	Host    string    `json:"host"`
	Started time.Time `json:"started"`
	Now     time.Time `json:"now"`             // by the clock that all times here are by
	Changes string    `json:"changes"`         // "token", "socket" or "none": how overrides may be set over this connection
	Sites   []Site    `json:"sites,omitempty"` // that vote; none: this server goes by its own probes
}

// Site is a voter.
type Site struct {
	Name  string    `json:"name"`
	Ours  bool      `json:"ours,omitempty"`
	Fresh bool      `json:"fresh"` // its votes count; of ours: the others can see them
	Votes int       `json:"votes"`
	Seen  time.Time `json:"seen,omitzero"` // when it was heard of last
}

// Summary counts over all pools, whatever was asked for.
type Summary struct {
	Pools     int `json:"pools"`
	Fallback  int `json:"fallback"` // pools without a usable tier
	Backup    int `json:"backup"`   // pools on another tier than the first
	Unwell    int `json:"unwell"`   // pools with anything out of the ordinary, these included
	Members   int `json:"members"`
	Up        int `json:"up"`
	Down      int `json:"down"`
	Unknown   int `json:"unknown"`
	Overrides int `json:"overrides"`
}

// Pool is one pool or overlay, and what it answers.
type Pool struct {
	ID       string    `json:"id"`   // tells pools of the same name apart, and stays over reloads
	Name     string    `json:"name"` // the first of Names
	Names    []string  `json:"names"`
	Block    string    `json:"block"`          // the zones of its server block
	View     string    `json:"view,omitempty"` // of its server block
	Began    time.Time `json:"began"`          // when the process first had it; a reload that keeps it keeps this
	Overlay  bool      `json:"overlay,omitempty"`
	Unwell   bool      `json:"unwell"`
	Answer   Answer    `json:"answer"` // for an overlay: nothing
	Tiers    []Tier    `json:"tiers"`
	Fallback string    `json:"fallback"` // the operator's words
	Failback string    `json:"failback"` // "auto" or "manual"
	Order    string    `json:"order"`
	Hold     float64   `json:"hold"`     // seconds
	Interval float64   `json:"interval"` // seconds, as are the next two
	Recheck  float64   `json:"recheck"`
	Timeout  float64   `json:"timeout"`
	Fall     int       `json:"fall"`
	Window   int       `json:"window,omitempty"`
	Rise     int       `json:"rise"`
	Require  int       `json:"require"` // how many of the probes of a member have to pass
	MinTTL   int       `json:"minTTL"`  // seconds
	MaxTTL   int       `json:"maxTTL"`
}

// Answer is what a pool gives out.
type Answer struct {
	Tier      string    `json:"tier"`           // "0", "1" ... or "fallback"; "" for an overlay
	Text      string    `json:"text"`           // as in the log: addresses, or NODATA and such
	Addresses []string  `json:"addresses"`      // in their order, A first
	TTL       int       `json:"ttl"`            // seconds
	Since     time.Time `json:"since,omitzero"` // when it became what it is; not there for what would be
	Turns     bool      `json:"turns"`          // the order changes from answer to answer
}

// Tier is the members that are used together.
type Tier struct {
	Usable  bool     `json:"usable"`
	Need    int      `json:"need"` // how many members it takes to be usable
	Members []Member `json:"members"`
}

// Member is one address of a pool.
type Member struct {
	Member   string             `json:"member"`  // as in the log: "fra1 192.0.2.10:443"
	Address  string             `json:"address"` // ADDRESS or ADDRESS:PORT: the word for overrides
	Label    string             `json:"label,omitempty"`
	Status   string             `json:"status"` // "up", "down" or "unknown": what counts
	Since    time.Time          `json:"since,omitzero"`
	Why      string             `json:"why,omitempty"`
	Began    time.Time          `json:"began,omitzero"`         // when this process first had it, if later than the pool
	Answered bool               `json:"answered"`               // it is in the answer
	Held     time.Time          `json:"heldUntil,omitzero"`     // it is up, and waits until then
	Waiting  bool               `json:"waiting,omitempty"`      // it is up, and waits for the operator: failback manual
	Returned time.Time          `json:"returned,omitzero"`      // when it came back, if it is held or waits
	Next     time.Time          `json:"couldChangeAt,omitzero"` // the soonest that its status could change
	Override *override.Override `json:"override,omitempty"`     // in force
	Probed   string             `json:"probed,omitempty"`       // under an override: the status that the probes give it
	Probes   []Probe            `json:"probes"`
}

// Probe is one question to one member, and what has come of it.
type Probe struct {
	Probe       string    `json:"probe"` // the URL as it was written
	Status      string    `json:"status"`
	Since       time.Time `json:"since,omitzero"`
	Why         string    `json:"why,omitempty"`
	Against     int       `json:"against"` // results that speak against the status,
	Needed      int       `json:"needed"`  // of so many that would change it
	Due         time.Time `json:"due"`     // when it is asked next
	Last        *Result   `json:"last,omitempty"`
	Certificate time.Time `json:"certificateExpires,omitzero"` // the end of the member's certificate, as the probe saw it
	Expiring    bool      `json:"expiring,omitempty"`          // this is sooner than the period of the option expires
	Votes       []Vote    `json:"votes,omitempty"`             // that count, ours among them; none: there is but this site
	Trail       []float64 `json:"trail"`                       // how long the latest probes took, in seconds, the newest last; below 0: it failed after so long
}

// Vote is what a site says of a target.
type Vote struct {
	Site   string `json:"site"`
	Status string `json:"status"`
	Why    string `json:"why,omitempty"`
}

// Result is how one probe ended.
type Result struct {
	At     time.Time `json:"at"`
	Passed bool      `json:"passed"`
	Took   float64   `json:"took"`            // seconds
	Error  string    `json:"error,omitempty"` // why it failed
}

// Event is something that happened.
type Event struct {
	ID       string             `json:"id"`
	At       time.Time          `json:"at"`
	Kind     string             `json:"kind"`             // "transition", "answer", "override" or "server"
	PoolID   string             `json:"poolId,omitempty"` // of a transition or an answer
	Pool     string             `json:"pool,omitempty"`
	View     string             `json:"view,omitempty"`
	Member   string             `json:"member,omitempty"` // as in the log
	From     string             `json:"from,omitempty"`   // statuses,
	To       string             `json:"to,omitempty"`     // of a transition
	Why      string             `json:"why,omitempty"`
	Answer   string             `json:"answer,omitempty"` // what is answered now
	Change   string             `json:"change,omitempty"` // of an override: "set", "cleared" or "expired"; of the server: "started", "reloaded" or "refused"
	Override *override.Override `json:"override,omitempty"`
	Replaced *override.Override `json:"replaced,omitempty"` // the override in whose place this one was set
	By       string             `json:"by,omitempty"`       // who made the change; who set an override that ended is its author
}

// Change asks for an override. Until and For exclude each other; without them it is until it is cleared.
type Change struct {
	Action override.Action `json:"action"`
	Reason string          `json:"reason,omitempty"`
	Author string          `json:"author,omitempty"`
	Until  time.Time       `json:"until,omitzero"`
	For    string          `json:"for,omitempty"` // a duration: "90m"
}

// Outcome is what an override, or the end of one, does or would do.
type Outcome struct {
	DryRun    bool               `json:"dryRun"`
	Override  *override.Override `json:"override,omitempty"` // nil: it is cleared
	Effects   []Effect           `json:"effects"`            // of pools whose answer changes, the worst first
	Pools     int                `json:"pools"`              // how many pools it bears on
	Members   int                `json:"members"`            // how many members in these pools
	Unchanged int                `json:"unchanged"`          // how many of the pools keep their answer
	Warnings  []string           `json:"warnings"`
	Notes     []string           `json:"notes,omitempty"` // facts that are no failure, such as an override that ends with the process
}

// Effect is what becomes of one pool.
type Effect struct {
	PoolID  string   `json:"poolId"`
	Pool    string   `json:"pool"`
	View    string   `json:"view,omitempty"`
	Member  string   `json:"member"`  // the first of Members
	Members []string `json:"members"` // that it bears on
	Before  Answer   `json:"before"`
	After   Answer   `json:"after"`
	Bare    bool     `json:"bare"` // there was a usable tier, and there would be none
}

// Problem is an error (RFC 9457), with the media type application/problem+json.
type Problem struct {
	Type    string   `json:"type"` // about:blank, or #last-usable
	Title   string   `json:"title"`
	Status  int      `json:"status"`
	Detail  string   `json:"detail,omitempty"`
	Outcome *Outcome `json:"outcome,omitempty"` // of what was not done because of a warning
}
