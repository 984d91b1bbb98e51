package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/internal/redisx"
)

// askCredentials returns user and password for a new connection.
type askCredentials = func(ctx context.Context) (username, password string, err error)

// credentials returns what go-redis calls for each new connection, or nil where user
// and password never change. The user is that of the settings or of the URL.
func credentials(cfg *config.Config, user string, provided *provided) askCredentials {
	switch {
	case provided != nil:
		return provided.ask
	case cfg.PasswordFile != "":
		return func(context.Context) (string, string, error) {
			password, err := cfg.ReadPasswordFile()
			return user, password, err
		}
	default:
		return cfg.Credentials
	}
}

// maxAsking is how many connections being opened may ask for credentials at a time.
const maxAsking = 4

// bounds keeps a slow or stuck source of credentials from holding up what needs them:
// its answer is awaited until the context ends, the limit has passed or the gate closes.
// A source that ignores the end of its context keeps a goroutine until it returns, so it
// is asked by a few at a time only: while it is stuck, later connections wait in vain.
// Each error is a dialError, as nothing was sent.
func (g *gate) bounds(ask askCredentials, limit time.Duration) askCredentials {
	if ask == nil {
		return nil
	}
	slots := make(chan struct{}, maxAsking)
	return func(ctx context.Context) (string, string, error) {
		ctx, cancel := redisx.WithTimeout(ctx, limit)
		defer cancel()
		defer context.AfterFunc(g.done, cancel)()
		var username, password string // read only after await has seen the end of the function
		err := await(ctx, func() (err error) {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				return ctx.Err()
			}
			username, password, err = ask(ctx)
			return err
		})
		if errors.Is(err, errLate) {
			err = fmt.Errorf("client: no credentials in time: %w", ctx.Err())
		}
		if err != nil {
			return "", "", dialError{reachedError{g.blame(err)}}
		}
		if password == "" && username != "" && username != "default" {
			return "", "", dialError{reachedError{errLonelyUser}}
		}
		return username, password, nil
	}
}

// errLonelyUser refuses what go-redis would not send: all would be done as Redis' default user.
var errLonelyUser = errors.New("client: credentials have a user without a password; one that needs none (nopass) takes any")

// errLate is the error of await when the context ends first.
var errLate = errors.New("client: no end in time")

// await calls f, which is not ours, and returns its error, or errLate when ctx ends first. A
// panic of f is an error as well; its value may be a secret.
func await(ctx context.Context, f func() error) error {
	select {
	case err := <-redisx.Go(f):
		if isForeign(foreign(err)) {
			return errCredentialsPanic
		}
		return err
	case <-ctx.Done():
		return errLate
	}
}

// errCredentialsPanic is the error of a source of credentials that panicked.
var errCredentialsPanic = errors.New("client: the source of credentials panicked")

// provided are the credentials of a Config's CredentialsProvider. It is asked for each
// new connection, and when it announces others the connections in the pools are
// replaced, before the server ends them with the credentials they were opened with.
//
// go-redis could do this itself, but panics when a connection is opened through
// Client.Conn.
type provided struct {
	provider auth.StreamingCredentialsProvider

	mu                 sync.Mutex // protects what follows
	username, password string     // the latest known
	known, closed      bool
	peers              []*peers // whose connections are replaced
	unsubscribe        auth.UnsubscribeFunc
}

var (
	_ auth.CredentialsListener = (*provided)(nil)
	_ fmt.Formatter            = (*provided)(nil)
)

// Format writes what p is, whatever the verb, and not the password in it: the provider may log its listeners.
func (*provided) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "client.CredentialsListener") }

// newProvided returns nil without a provider.
func newProvided(provider auth.StreamingCredentialsProvider) *provided {
	if provider == nil {
		return nil
	}
	return &provided{provider: provider}
}

// replaces makes p replace the connections of peers.
func (p *provided) replaces(peers *peers) {
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.peers = append(p.peers, peers)
	}
}

// ask returns the present credentials. A provider must accept that the same listener
// subscribes repeatedly, and any of the functions it returns ends all of that.
func (p *provided) ask(context.Context) (username, password string, err error) {
	current, unsubscribe, err := p.provider.Subscribe(p)
	if err != nil {
		return "", "", fmt.Errorf("client: credentials provider: %w", err)
	}
	if arguments.IsNil(current) {
		return "", "", errors.New("client: credentials provider returned no credentials")
	}
	p.mu.Lock()
	p.unsubscribe = unsubscribe
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return "", "", errors.Join(redis.ErrClosed, p.close())
	}
	p.OnNext(current)
	username, password = current.BasicAuth()
	return username, password, nil
}

// OnNext replaces the connections that were opened with other credentials.
func (p *provided) OnNext(next auth.Credentials) {
	if arguments.IsNil(next) {
		return
	}
	username, password := next.BasicAuth()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known && (username != p.username || password != p.password) {
		for _, s := range p.peers {
			s.replaceAll()
		}
	}
	p.username, p.password, p.known = username, password, true
}

// OnError does nothing: the next connection that is opened gets the error.
func (p *provided) OnError(error) {}

// close ends the subscription, and waits for that for closeLimit at most.
func (p *provided) close() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	unsubscribe := p.unsubscribe
	p.unsubscribe, p.closed = nil, true
	p.mu.Unlock()
	if unsubscribe == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	switch err := await(ctx, unsubscribe); {
	case errors.Is(err, errLate):
		return errors.New("client: credentials provider does not end its subscription")
	case err != nil && !errors.Is(err, errCredentialsPanic):
		return fmt.Errorf("client: credentials provider: %w", err)
	default:
		return err
	}
}
