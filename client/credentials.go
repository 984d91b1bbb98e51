package client

import (
	"context"

	"github.com/compozy/cache/config"
)

// credentials returns what go-redis calls for the credentials of each new connection,
// or nil where they never change. The user is that of the settings or of the URL.
func credentials(cfg *config.Config, user string) func(ctx context.Context) (username, password string, err error) {
	if cfg.PasswordFile == "" {
		return cfg.Credentials
	}
	return func(context.Context) (string, string, error) {
		password, err := cfg.ReadPasswordFile()
		return user, password, err
	}
}
