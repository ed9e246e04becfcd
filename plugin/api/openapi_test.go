package api

import (
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/override"

	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/yaml"
)

// object is an object of the description.
type object = map[string]any

// described is the description with its references followed.
func described(t *testing.T) object {
	t.Helper()
	var root object
	if err := yaml.UnmarshalStrict([]byte(description), &root); err != nil {
		t.Fatal(err)
	}
	var follow func(v any, depth int) any
	follow = func(v any, depth int) any {
		if depth > 40 {
			t.Fatal("the description refers to itself")
		}
		switch v := v.(type) {
		case object:
			if ref, ok := v["$ref"].(string); ok {
				var at any = root
				for word := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
					at = at.(object)[word]
				}
				if at == nil {
					t.Fatalf("there is no %s", ref)
				}
				return follow(at, depth+1)
			}
			whole := make(object, len(v))
			for k, e := range v {
				whole[k] = follow(e, depth+1)
			}
			return whole
		case []any:
			whole := make([]any, len(v))
			for i, e := range v {
				whole[i] = follow(e, depth+1)
			}
			return whole
		}
		return v
	}
	return follow(root, 0).(object)
}

// path leads to something in the description.
type path []string

// at is what a path leads to from an object, or nil.
func (p path) at(o object) object {
	for _, word := range p {
		o, _ = o[word].(object)
	}
	return o
}

// TestDescribedRoutes has the same routes in the description as in the server.
func TestDescribedRoutes(t *testing.T) {
	f := withToken(t)
	served := make(map[string][]string)
	for _, route := range f.server.routes() {
		for method := range route.methods {
			served[strings.TrimSuffix(route.path, "{$}")] = append(served[strings.TrimSuffix(route.path, "{$}")], strings.ToLower(method))
		}
	}
	paths := described(t)["paths"].(object)
	for p, methods := range served {
		for _, method := range methods {
			if (path{p, method}).at(paths) == nil {
				t.Errorf("%s %s is served and not described", method, p)
			}
		}
	}
	ids := make(map[string]bool)
	for p, operations := range paths {
		for method, operation := range operations.(object) {
			if method == "parameters" {
				continue
			}
			if !slices.Contains(served[p], method) {
				t.Errorf("%s %s is described and not served", method, p)
			}
			id, _ := operation.(object)["operationId"].(string)
			if id == "" || ids[id] {
				t.Errorf("%s %s has the operationId %q, want one of its own", method, p, id)
			}
			ids[id] = true
			if missing := unknownParameters(p, operations.(object), operation.(object)); missing != "" {
				t.Errorf("%s %s does not describe {%s}", method, p, missing)
			}
		}
	}
}

// unknownParameters is a parameter in a path that is not described.
func unknownParameters(p string, of ...object) string {
	for word := range strings.SplitSeq(p, "/") {
		name, ok := strings.CutPrefix(word, "{")
		name = strings.TrimSuffix(name, "}")
		if ok && !slices.ContainsFunc(of, func(o object) bool {
			all, _ := o["parameters"].([]any)
			return slices.ContainsFunc(all, func(p any) bool { return p.(object)["name"] == name && p.(object)["in"] == "path" })
		}) {
			return name
		}
	}
	return ""
}

// TestDescribedFields has the same fields in the schemas as in the types, and those required that are always there.
func TestDescribedFields(t *testing.T) {
	schemas := path{"components", "schemas"}.at(described(t))
	types := []any{Document{}, Warning{}, Process{}, Site{}, Vote{}, Summary{}, Pool{}, Answer{}, Tier{}, Member{}, Probe{}, Result{}, Event{}, override.Override{},
		Change{}, Outcome{}, Effect{}, Problem{},
		struct {
			Events []Event   `json:"events"`
			Since  time.Time `json:"since,omitzero"`
		}{}, struct {
			Overrides []override.Override `json:"overrides"`
		}{}}
	names := make(map[string]bool)
	for _, v := range types {
		typ := reflect.TypeOf(v)
		name := typ.Name()
		if name == "" {
			name = typ.Field(0).Name
		}
		names[name] = true
		schema, ok := schemas[name].(object)
		if !ok {
			t.Errorf("%s is not described", name)
			continue
		}
		fields, required := make(map[string]bool), []string{}
		for _, field := range reflect.VisibleFields(typ) {
			tag, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			if tag == "" { // an embedded type
				continue
			}
			fields[tag] = true
			if !strings.Contains(options, "omit") {
				required = append(required, tag)
			}
			property := path{"properties", tag}.at(schema)
			if want := kindOf(field.Type); property["type"] != want {
				t.Errorf("%s.%s is described as %v, want type %s", name, tag, property, want)
			}
		}
		for property := range schema["properties"].(object) {
			if !fields[property] {
				t.Errorf("%s.%s is described, and there is none", name, property)
			}
		}
		said := []string{}
		for _, r := range schema["required"].([]any) {
			said = append(said, r.(string))
		}
		if slices.Sort(said); !slices.Equal(said, slices.Sorted(slices.Values(required))) {
			t.Errorf("%s requires %q, want %q", name, said, required)
		}
	}
	for name := range schemas {
		if !names[name] {
			t.Errorf("%s is described, and there is no such type", name)
		}
	}
}

// kindOf is the type of a field in a schema.
func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return kindOf(t.Elem())
	case reflect.Slice:
		return "array"
	case reflect.Bool:
		return "boolean"
	case reflect.Int:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Struct:
		if t != reflect.TypeOf(noon) {
			return "object"
		}
	}
	return "string"
}

// TestDescribedAnswers looks at what the server answers by what the description says of it. Its schemas keep to words
// that OpenAPI and the validator of Kubernetes have in common, which comes with CoreDNS.
func TestDescribedAnswers(t *testing.T) {
	d := described(t)
	valid, set := `{"action":"drain","reason":"new disks","author":"alice","for":"90m"}`, "/api/v1/overrides/members/192.0.2.2"
	closed := newFront(t, Listen{Address: "127.0.0.1:9054"})
	f := withToken(t)
	f.Add(Event{Kind: "transition", PoolID: "a@b", Pool: "a.example.org.", View: "inside", Member: "192.0.2.1", From: "up", To: "down", Why: "x", Answer: "192.0.2.2"})
	f.Add(Event{Kind: "server", Change: "started", Why: "1 pool: 2 members up, 0 down"})
	f.Add(Event{Kind: "override", Change: "set", Override: full("a.example.org.").Tiers[0].Members[0].Override})
	f.Add(Event{Kind: "server", Change: "refused", Why: "x"})
	f.warn(Warning{Kind: "state", Text: "the state file s cannot be written", Since: noon}, Warning{Kind: "status", Text: "x"})
	seen := make(map[string]bool)
	for _, test := range []struct {
		front                *front
		method, target, path string
		body                 string
		headers              []string
		code                 string
	}{
		{f, "GET", "/", "/", "", nil, "200"},
		{f, "GET", "/api/v1/openapi.yaml", "", "", nil, "200"},
		{f, "GET", "/api/v1/pools", "", "", nil, "200"},
		{f, "GET", "/api/v1/pools?limit=0", "/api/v1/pools", "", nil, "200"},
		{f, "GET", "/api/v1/pools?limit=x", "/api/v1/pools", "", nil, "422"},
		{f, "GET", "/api/v1/pools/A.example.org", "/api/v1/pools/{name}", "", nil, "200"},
		{f, "GET", "/api/v1/pools/none.example.org", "/api/v1/pools/{name}", "", nil, "404"},
		{f, "GET", "/api/v1/events", "", "", nil, "200"},
		{f, "GET", "/api/v1/events?pools=1", "/api/v1/events", "", []string{"Accept", "text/event-stream"}, "422"},
		{f, "GET", "/api/v1/overrides", "", "", nil, "200"},
		{f, "PUT", set, "", valid, nil, "200"},
		{f, "GET", "/api/v1/overrides", "", "", nil, "200"},
		{f, "PUT", set, "", "{", nil, "400"},
		{f, "PUT", set, "", valid, []string{"Authorization", ""}, "401"},
		{f, "PUT", set, "", valid, []string{"Origin", "https://www.example.net"}, "403"},
		{closed, "PUT", set, "", valid, nil, "403"},
		{f, "PUT", "/api/v1/overrides/members/192.0.2.99", "", valid, nil, "404"},
		{f, "PUT", "/api/v1/overrides/members/192.0.2.1", "", valid, nil, "409"},
		{f, "PUT", set, "", `{"reason":"` + strings.Repeat("x", maxBody) + `"}`, nil, "413"},
		{f, "PUT", set, "", valid, []string{"Content-Type", "text/plain"}, "415"},
		{f, "PUT", set, "", `{"action":"stop"}`, nil, "422"},
		{f, "DELETE", set, "", "", nil, "200"},
		{f, "DELETE", "/api/v1/overrides/members/192.0.2.1", "", "", nil, "409"},
		{f, "DELETE", "/api/v1/overrides/members/192.0.2.99", "", "", nil, "404"},
		{f, "DELETE", set + "?dryrun=true", "", "", nil, "422"},
		{f, "DELETE", set, "", "", []string{"Authorization", "Bearer x"}, "401"},
		{closed, "DELETE", set, "", "", nil, "403"},
		{f, "PUT", "/api/v1/overrides/labels/fra1", "/api/v1/overrides/labels/{label}", valid, nil, "200"},
		{f, "DELETE", "/api/v1/overrides/labels/fra1", "/api/v1/overrides/labels/{label}", "", nil, "200"},
		{f, "PUT", "/api/v1/overrides/pools/a.example.org/members/fra1", "/api/v1/overrides/pools/{pool}/members/{member}", valid, nil, "422"},
		{f, "PUT", "/api/v1/overrides/pools/a.example.org/members/192.0.2.2", "/api/v1/overrides/pools/{pool}/members/{member}", valid, nil, "200"},
		{f, "DELETE", "/api/v1/overrides/pools/a.example.org/members/fra1", "/api/v1/overrides/pools/{pool}/members/{member}", "", nil, "200"},
		{f, "GET", "/api/v1/pools", "", "", []string{"Host", "www.example.net"}, "403"},
	} {
		p := test.path
		switch {
		case p != "":
		case strings.HasPrefix(test.target, "/api/v1/overrides/members/"):
			p = "/api/v1/overrides/members/{member}"
		default:
			p = test.target
		}
		t.Run(test.method+" "+test.target+" "+test.code, func(t *testing.T) {
			responses := path{"paths", p, strings.ToLower(test.method), "responses", test.code}.at(d)
			resp := test.front.do(test.method, test.target, test.body, test.headers...)
			if responses == nil {
				t.Fatalf("%s is not described for %s %s", test.code, test.method, p)
			}
			conforms(t, responses, resp, test.code)
		})
		seen[test.method+p] = true
	}
	for p, operations := range d["paths"].(object) {
		for method := range operations.(object) {
			if method != "parameters" && !seen[strings.ToUpper(method)+p] {
				t.Errorf("%s %s is not looked at", method, p)
			}
		}
	}
}

// conforms looks at an answer by the description of it.
func conforms(t *testing.T, described object, resp *http.Response, code string) {
	t.Helper()
	body, _ := io.ReadAll(resp.Body)
	if !strings.HasPrefix(resp.Status, code) {
		t.Fatalf("%s %s, want %s", resp.Status, body, code)
	}
	for name := range (path{"headers"}).at(described) {
		if resp.Header.Get(name) == "" {
			t.Errorf("the header %s is described, and not there", name)
		}
	}
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	schema := path{"content", media, "schema"}.at(described)
	if schema == nil {
		t.Fatalf("%s is not described", media)
	}
	var data any = string(body)
	if strings.HasSuffix(media, "json") {
		if err := json.Unmarshal(body, &data); err != nil {
			t.Fatal(err)
		}
	}
	if err := valid(schema, data); err != nil {
		t.Errorf("%s: %v", body, err)
	}
}

// valid says what is wrong with data by a schema.
func valid(schema object, data any) error {
	text, err := json.Marshal(schema)
	if err != nil {
		return err
	}
	var s spec.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	return validate.NewSchemaValidator(&s, nil, "", strfmt.Default).Validate(data).AsError()
}

// TestDescribedChange has the example of a change taken, and what the server refuses not described.
func TestDescribedChange(t *testing.T) {
	content := path{"components", "requestBodies", "Change", "content", "application/json"}.at(described(t))
	schema := path{"schema"}.at(content)
	example, _ := json.Marshal(content["example"])
	if err := valid(schema, content["example"]); err != nil {
		t.Error(err)
	}
	if _, err := readChange(strings.NewReader(string(example))); err != nil {
		t.Errorf("%s: %v", example, err)
	}
	for _, bad := range []string{`{"action":"drain","x":1}`, `{"action":1}`, `{"action":"drain","until":"soon"}`, `{"action":"drain","for":90}`, `[]`} {
		var data any
		if err := json.Unmarshal([]byte(bad), &data); err != nil {
			t.Fatal(err)
		}
		if valid(schema, data) == nil {
			t.Errorf("%s is right by the description", bad)
		}
		if _, err := readChange(strings.NewReader(bad)); err == nil {
			t.Errorf("%s is right for the server", bad)
		}
	}
}
