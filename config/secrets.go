package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
)

// credentials checks that there is one source of credentials, and what it needs.
func (v *validation) credentials() {
	c := v.cfg
	var fromURL struct{ user, password bool }
	if opts, err := ParseURL(c.URL); c.URL != "" && err == nil {
		fromURL.user, fromURL.password = opts.Username != "", opts.Password != ""
	}
	if c.Username != "" && !isPrintable(c.Username) {
		v.reject("Username", "a name without spaces")
	}
	if c.PasswordFile != "" {
		switch {
		case fromURL.password:
			v.reject("PasswordFile", "nothing with a password in URL: use one of them")
		case c.Password != "":
			v.reject("PasswordFile", "nothing with Password: use one of them")
		}
		if _, err := c.ReadPasswordFile(); err != nil {
			v.reject("PasswordFile", "a readable file that holds the password on a single line")
		}
	}
	excluded := "nothing with Username, Password, PasswordFile or a user in URL: use one source of credentials"
	fixed := c.Username != "" || c.Password != "" || c.PasswordFile != "" || fromURL.user || fromURL.password
	if c.Credentials != nil && fixed {
		v.reject("Credentials", "%s", excluded)
	}
	switch {
	case c.CredentialsProvider == nil:
	case isNilPointer(c.CredentialsProvider):
		v.reject("CredentialsProvider", "a provider, not a nil pointer")
	case fixed:
		v.reject("CredentialsProvider", "%s", excluded)
	case c.Credentials != nil:
		v.reject("CredentialsProvider", "nothing with Credentials: use one source of credentials")
	}
}

// isNilPointer reports whether v holds a pointer that is nil, as a constructor returns
// it beside an error that was not looked at.
func isNilPointer(v any) bool {
	rv := reflect.ValueOf(v)
	return rv.Kind() == reflect.Pointer && rv.IsNil()
}

// ReadPasswordFile returns the content of PasswordFile without one line break at its
// end. The error names the file, and nothing of what is in it: it wraps that of
// os.ReadFile, or says that the file is empty or has several lines.
func (c *Config) ReadPasswordFile() (string, error) {
	content, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("config: password file: %w", err)
	}
	switch password := trimLineBreak(string(content)); {
	case password == "":
		return "", fmt.Errorf("config: password file %s: %w", c.PasswordFile, errors.New("is empty"))
	case strings.ContainsAny(password, "\r\n"):
		return "", fmt.Errorf("config: password file %s: %w", c.PasswordFile, errors.New("has several lines"))
	default:
		return password, nil
	}
}
