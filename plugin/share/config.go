package share

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
)

// Config says where etcd is, and as whom it is asked.
type Config struct {
	Endpoints    []string // URLs, all of them http or all of them https
	Site         string   // the voter; "": the host name
	Prefix       string   // of all keys, with a slash at its end; "": DefaultPrefix
	CA           string   // a file with the authorities that etcd's certificate is of; "": those of the system
	Cert, Key    string   // files with a certificate of ours; "": none
	User         string   // "": none
	PasswordFile string   // with the password of the user in its first line
}

// DefaultPrefix is where the keys are if nothing else is said.
const DefaultPrefix = "/failover/"

// Check says what is wrong with a configuration. It reads the files, and asks nobody.
func (c Config) Check() error {
	c, err := c.complete()
	if err != nil {
		return err
	}
	if len(c.Endpoints) == 0 {
		return errors.New("no endpoint, want a URL such as http://127.0.0.1:2379")
	}
	scheme := ""
	for _, e := range c.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.TrimSuffix(u.Path, "/") != "" ||
			u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("endpoint %q, want a URL such as http://127.0.0.1:2379", e)
		}
		if _, _, err := net.SplitHostPort(u.Host); err != nil {
			return fmt.Errorf("endpoint %q without a port, want one such as 2379", e)
		}
		if scheme != "" && u.Scheme != scheme {
			return fmt.Errorf("endpoint %q beside %s, want all of them http or all of them https", e, c.Endpoints[0])
		}
		scheme = u.Scheme
	}
	switch {
	case !plain(c.Site):
		return fmt.Errorf("site %q, want up to 63 letters, digits, dots, dashes and underscores", c.Site)
	case !plainPrefix(c.Prefix):
		return fmt.Errorf("prefix %q, want words of letters, digits, dots, dashes and underscores, with a slash at the end and between them",
			c.Prefix)
	case (c.Cert == "") != (c.Key == ""):
		return fmt.Errorf("certificate %q and key %q, want both of them or none", c.Cert, c.Key)
	case c.Cert+c.CA != "" && scheme != "https":
		return fmt.Errorf("certificates beside the endpoint %q, want it to be https", c.Endpoints[0])
	case (c.User == "") != (c.PasswordFile == ""):
		return fmt.Errorf("user %q and password file %q, want both of them or none", c.User, c.PasswordFile)
	}
	if _, err := c.tls(); err != nil {
		return err
	}
	_, err = c.password()
	return err
}

// complete is the configuration with what goes without saying.
func (c Config) complete() (Config, error) {
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.Site == "" {
		var err error
		if c.Site, err = os.Hostname(); err != nil {
			return c, fmt.Errorf("no site, and no host name in its place: %w", err)
		}
	}
	return c, nil
}

func plainPrefix(prefix string) bool {
	inner, ok := strings.CutSuffix(prefix, "/")
	for word := range strings.SplitSeq(strings.TrimPrefix(inner, "/"), "/") {
		ok = ok && plain(word)
	}
	return ok
}

// tls is how https endpoints are spoken to; nil: there are none. The files are read anew for each connection.
func (c Config) tls() (*tls.Config, error) {
	if !strings.HasPrefix(c.Endpoints[0], "https:") {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("authorities: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %q, want those of the authorities", c.CA)
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate %q: %w", c.Cert, err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

func (c Config) password() (string, error) {
	if c.PasswordFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("no password in the first line of %q", c.PasswordFile)
	}
	return line, nil
}
