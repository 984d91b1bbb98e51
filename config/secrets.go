package config

import (
	"errors"
	"fmt"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/internal/smallfile"
)

// credentials checks that there is one source of credentials, and what it needs.
func (v *validation) credentials() {
	c := v.cfg
	var fromURL struct{ user, password bool }
	if opts, err := ParseURL(c.URL); c.URL != "" && err == nil {
		fromURL.user, fromURL.password = opts.Username != "", opts.Password != ""
	}
	if !isPrintable(c.Username) {
		v.reject("Username", allowedName)
	}
	if !isPrintable(c.SentinelUsername) {
		v.reject("SentinelUsername", allowedName)
	}
	if c.PasswordFile != "" {
		switch {
		case fromURL.password:
			v.reject("PasswordFile", "nothing with a password in URL: use one of them")
		case c.Password != "":
			v.reject("PasswordFile", "nothing with Password: use one of them")
		}
		if _, err := c.readPassword(); err != nil {
			v.reject("PasswordFile", "a regular file of at most %d KiB that holds the password on a single line; it %v",
				smallfile.Password, err)
		}
	}
	v.lonelyUsers(fromURL.user, fromURL.password)
	excluded := "nothing with Username, Password, PasswordFile or a user in URL: use one source of credentials"
	fixed := c.Username != "" || c.Password != "" || c.PasswordFile != "" || fromURL.user || fromURL.password
	if c.Credentials != nil && fixed {
		v.reject("Credentials", "%s", excluded)
	}
	switch {
	case c.CredentialsProvider == nil:
	case arguments.IsNil(c.CredentialsProvider):
		v.reject("CredentialsProvider", "a provider, not a nil pointer")
	case fixed:
		v.reject("CredentialsProvider", "%s", excluded)
	case c.Credentials != nil:
		v.reject("CredentialsProvider", "nothing with Credentials: use one source of credentials")
	}
}

// needsPassword is why a user without a password is refused.
const needsPassword = "nothing without a password: Redis gets both or neither, and a user that needs none (nopass) takes any"

// isLonely reports whether a user has no password. go-redis would not send it, and all would be
// done as Redis' default user.
func isLonely(user, password string) bool { return user != "" && user != "default" && password == "" }

// lonelyUsers checks that no user is without a password.
func (v *validation) lonelyUsers(inURL, passwordInURL bool) {
	c := v.cfg
	switch {
	case c.Credentials != nil, c.CredentialsProvider != nil, c.PasswordFile != "", passwordInURL:
	case inURL:
		if opts, err := ParseURL(c.URL); err == nil && isLonely(opts.Username, c.Password) {
			v.reject("URL", "a user with a password there, in Password or in PasswordFile; %s", needsPassword)
		}
	case isLonely(c.Username, c.Password):
		v.reject("Username", needsPassword)
	}
	if isLonely(c.SentinelUsername, c.SentinelPassword) {
		v.reject("SentinelUsername", needsPassword)
	}
}

// ReadPasswordFile returns the content of PasswordFile without one line break at its
// end. It takes a regular file of at most 64 KiB without NUL bytes, and waits for
// nothing. The error names the file, unless its name looks like a secret, and nothing
// of what is in it; it wraps fs.ErrNotExist and the like. For a nil Config and for
// one without PasswordFile it says so.
func (c *Config) ReadPasswordFile() (string, error) {
	if c == nil || c.PasswordFile == "" {
		return "", errors.New("config: no password file is named")
	}
	password, err := c.readPassword()
	if err != nil {
		return "", fmt.Errorf("config: password file %s %w", showSafe(field{path: true}, c.PasswordFile), err)
	}
	return password, nil
}

// readPassword is ReadPasswordFile with an error that completes a sentence about the file.
func (c *Config) readPassword() (string, error) {
	content, err := smallfile.Read(c.PasswordFile, smallfile.Password)
	if err != nil {
		return "", err
	}
	password := trimLineBreak(string(content))
	if password == "" {
		return "", errors.New("is empty")
	}
	// The rules of Password hold here as well.
	if has := fault(field{name: "Password", secret: true}, password); has != "" {
		return "", errors.New("has " + has)
	}
	return password, nil
}
