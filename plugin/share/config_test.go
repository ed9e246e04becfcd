package share

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigCheck(t *testing.T) {
	file := func(name, content string) string {
		name = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	http, https := []string{"http://192.0.2.1:2379"}, []string{"https://etcd.example.org:2379"}
	password := file("password", "secret\n")
	for name, test := range map[string]struct {
		config Config
		want   string // in the error; "": there is none
	}{
		"least":          {Config{Endpoints: http}, ""},
		"all":            {Config{Endpoints: append(https, "https://[2001:db8::1]:2379/"), Site: "fra-1.a_b", Prefix: "a/b/", User: "u", PasswordFile: password}, ""},
		"no endpoint":    {Config{}, "no endpoint"},
		"no URL":         {Config{Endpoints: []string{"192.0.2.1:2379"}}, `"192.0.2.1:2379"`},
		"another scheme": {Config{Endpoints: []string{"ftp://192.0.2.1:21"}}, `"ftp://192.0.2.1:21"`},
		"no port":        {Config{Endpoints: []string{"http://192.0.2.1"}}, "without a port"},
		"a path":         {Config{Endpoints: []string{"http://192.0.2.1:2379/v3"}}, `"http://192.0.2.1:2379/v3"`},
		"a user in it":   {Config{Endpoints: []string{"http://u:p@192.0.2.1:2379"}}, "want a URL"},
		"mixed":          {Config{Endpoints: append(http, https...)}, "all of them"},
		"site":           {Config{Endpoints: http, Site: "a/b"}, `site "a/b"`},
		"long site":      {Config{Endpoints: http, Site: strings.Repeat("x", 64)}, "up to 63"},
		"prefix":         {Config{Endpoints: http, Prefix: "/failover"}, `prefix "/failover"`},
		"only a slash":   {Config{Endpoints: http, Prefix: "/"}, `prefix "/"`},
		"two slashes":    {Config{Endpoints: http, Prefix: "/a//b/"}, `prefix "/a//b/"`},
		"cert alone":     {Config{Endpoints: https, Cert: "c"}, `certificate "c" and key ""`},
		"CA with http":   {Config{Endpoints: http, CA: "ca"}, "want it to be https"},
		"no CA there":    {Config{Endpoints: https, CA: "/nowhere/ca"}, "/nowhere/ca"},
		"an empty CA":    {Config{Endpoints: https, CA: password}, "no certificate in"},
		"no cert there":  {Config{Endpoints: https, Cert: "/nowhere/c", Key: "/nowhere/k"}, "/nowhere/c"},
		"user alone":     {Config{Endpoints: http, User: "u"}, `user "u"`},
		"no password":    {Config{Endpoints: http, User: "u", PasswordFile: file("empty", "\n")}, "no password"},
		"nowhere":        {Config{Endpoints: http, User: "u", PasswordFile: "/nowhere/p"}, "/nowhere/p"},
	} {
		err := test.config.Check()
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
		}
	}
}
