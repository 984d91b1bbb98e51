package client

import (
	"cmp"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/compozy/cache/config"
)

// Modes of deployment, as they appear in logs.
const (
	modeSingle   = "single"
	modeSentinel = "sentinel"
	modeCluster  = "cluster"
)

// endpoint is where and how to connect, with the URL already taken apart.
type endpoint struct {
	mode     string
	network  string // tcp or unix
	addrs    []string
	options  redis.UniversalOptions
	tls      *security // nil without TLS
	lockNode bool
	ownURL   bool      // of a lock node that is a URL, with credentials of its own
	provided *provided // credentials that a provider may replace; nil without one
	prefix   string    // of the environment variables
}

// endpoints returns the main server's endpoint, and those of the lock nodes, of a complete,
// valid Config. While the gate is shut nobody is asked for credentials.
func endpoints(cfg *config.Config, g *gate) ([]*endpoint, error) {
	main, err := mainEndpoint(cfg, g)
	if err != nil {
		return nil, err
	}
	all := []*endpoint{main}
	for _, node := range cfg.LockNodes {
		e, err := lockEndpoint(cfg, node, main)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

func mainEndpoint(cfg *config.Config, g *gate) (*endpoint, error) {
	e := &endpoint{
		mode: modeSingle, network: "tcp", addrs: []string{net.JoinHostPort(strings.Trim(cfg.Host, "[]"), cfg.Port)},
		options: baseOptions(cfg), provided: newProvided(cfg.CredentialsProvider), prefix: cfg.EnvPrefix(),
	}
	o := &e.options
	o.Username, o.Password = cfg.Username, cfg.Password
	var url *redis.Options
	if cfg.URL != "" {
		var err error
		if url, err = e.applyURL(cfg.URL); err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
	}
	o.DB = cfg.Database() // the URL may not name one
	o.CredentialsProviderContext = g.bounds(credentials(cfg, o.Username, e.provided), o.DialTimeout)
	switch {
	case cfg.MasterName != "":
		e.mode, e.addrs, o.MasterName = modeSentinel, cfg.Addrs, cfg.MasterName
		o.SentinelUsername, o.SentinelPassword = cfg.SentinelUsername, cfg.SentinelPassword
	case cfg.Cluster:
		e.mode = modeCluster
		if len(cfg.Addrs) > 0 {
			e.addrs = cfg.Addrs
		}
	}
	if !cfg.UsesTLS() {
		return e, nil
	}
	var err error
	e.tls, err = newSecurity(cfg, cfg.URL, url)
	return e, err
}

// lockEndpoint derives the endpoint of one independent master. host:port takes
// credentials and TLS from the main settings; a URL brings its own credentials and
// says whether TLS is used, but shares the certificates.
func lockEndpoint(cfg *config.Config, node string, main *endpoint) (*endpoint, error) {
	e := &endpoint{mode: modeSingle, lockNode: true, ownURL: strings.Contains(node, "://"), prefix: cfg.EnvPrefix()}
	if !e.ownURL {
		e.network, e.addrs, e.options, e.tls, e.provided = "tcp", []string{node}, main.options, main.tls, main.provided
		// Locks live in the database that the application uses, but neither
		// Sentinel nor Cluster reach beyond the main server.
		e.options.MasterName, e.options.SentinelUsername, e.options.SentinelPassword = "", "", ""
		return e, nil
	}
	e.options = baseOptions(cfg)
	url, err := e.applyURL(node)
	if err != nil {
		return nil, fmt.Errorf("client: lock node: %w", err)
	}
	if url.TLSConfig == nil {
		return e, nil
	}
	if e.tls, err = newSecurity(cfg, node, url); err != nil {
		return nil, err
	}
	e.tls.config.ServerName = "" // the name to verify is that of the node
	return e, nil
}

// applyURL lets e lead to where a URL says, with the options that it names. They are the
// ones that are not zero: zero is how go-redis says "not given".
func (e *endpoint) applyURL(raw string) (*redis.Options, error) {
	u, err := config.ParseURL(raw)
	if err != nil {
		return nil, err
	}
	e.network, e.addrs = u.Network, []string{u.Addr}
	o := &e.options
	o.Username, o.Password = cmp.Or(u.Username, o.Username), cmp.Or(u.Password, o.Password)
	o.DB = u.DB
	o.Protocol = cmp.Or(u.Protocol, o.Protocol)
	o.ClientName = cmp.Or(u.ClientName, o.ClientName)
	o.MaxRetries = cmp.Or(u.MaxRetries, o.MaxRetries)
	o.MinRetryBackoff, o.MaxRetryBackoff = fit(cmp.Or(u.MinRetryBackoff, o.MinRetryBackoff),
		cmp.Or(u.MaxRetryBackoff, o.MaxRetryBackoff), u.MaxRetryBackoff != 0)
	o.DialTimeout = cmp.Or(max(u.DialTimeout, 0), o.DialTimeout)
	o.ReadTimeout = cmp.Or(u.ReadTimeout, o.ReadTimeout)
	o.WriteTimeout = cmp.Or(u.WriteTimeout, o.WriteTimeout)
	o.PoolFIFO = u.PoolFIFO
	o.PoolSize = cmp.Or(u.PoolSize, o.PoolSize)
	o.PoolTimeout = cmp.Or(max(u.PoolTimeout, 0), o.PoolTimeout)
	o.MinIdleConns = cmp.Or(u.MinIdleConns, o.MinIdleConns)
	if o.MaxIdleConns = cmp.Or(u.MaxIdleConns, o.MaxIdleConns); o.MaxIdleConns > 0 { // otherwise there is no limit
		// Connections above the limit would be opened and closed for ever.
		o.MinIdleConns, o.MaxIdleConns = fit(o.MinIdleConns, o.MaxIdleConns, u.MaxIdleConns != 0)
	}
	o.MaxActiveConns = u.MaxActiveConns
	o.MaxConcurrentDials = u.MaxConcurrentDials
	o.PipelinePoolSize = u.PipelinePoolSize
	o.PipelineReadBufferSize = u.PipelineReadBufferSize
	o.PipelineWriteBufferSize = u.PipelineWriteBufferSize
	o.ConnMaxIdleTime = cmp.Or(u.ConnMaxIdleTime, o.ConnMaxIdleTime)
	o.ConnMaxLifetime = cmp.Or(u.ConnMaxLifetime, o.ConnMaxLifetime)
	o.ConnMaxLifetimeJitter = u.ConnMaxLifetimeJitter
	return u, nil
}

// fit returns two bounds that agree. The one that the URL names wins; it does not contradict itself.
func fit[T int | time.Duration](least, most T, mostNamed bool) (T, T) {
	switch {
	case least <= most:
		return least, most
	case mostNamed:
		return most, most
	default:
		return least, least
	}
}

// baseOptions are the settings that do not depend on the server.
func baseOptions(cfg *config.Config) redis.UniversalOptions {
	return redis.UniversalOptions{
		ClientName:      cfg.ClientName,
		MaxRetries:      orNone(cfg.MaxRetries),
		MinRetryBackoff: orNone(cfg.MinRetryBackoff),
		MaxRetryBackoff: orNone(cfg.MaxRetryBackoff),
		DialTimeout:     cfg.DialTimeout,
		ReadTimeout:     orNone(cfg.ReadTimeout),
		WriteTimeout:    orNone(cfg.WriteTimeout),
		PoolTimeout:     cfg.PoolTimeout,
		PoolSize:        cfg.PoolSize,
		MinIdleConns:    cfg.MinIdleConns,
		MaxIdleConns:    cfg.MaxIdleConns,
		ConnMaxLifetime: orNone(cfg.ConnMaxLifetime),
		ConnMaxIdleTime: orNone(cfg.ConnMaxIdleTime),
		Protocol:        cfg.Protocol,
		// Without it a command waits for its read timeout although its context
		// has ended.
		ContextTimeoutEnabled: true,
		// A failed dial is retried by the command itself, with its own backoff;
		// five dials per try would make every command of an outage slow.
		DialerRetries: 1,
		// CLIENT SETINFO costs a round trip per connection and is an error
		// before Redis 7.2.
		DisableIdentity: true,
		// Any other mode makes NewClient look up host names.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// orNone translates zero, which means none or no limit in a complete Config, into
// the -1 that means the same to go-redis.
func orNone[T int | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// maxConns is how many connections the pool has at most.
func (e *endpoint) maxConns() int {
	if e.options.MaxActiveConns > 0 {
		return min(e.options.MaxActiveConns, e.options.PoolSize)
	}
	return e.options.PoolSize
}

// pipelinePoolSize is how many connections go-redis has for pipelines, beside its
// pool: 0 is how the option says "the default", and below that there are none.
func (e *endpoint) pipelinePoolSize() int {
	return max(cmp.Or(e.options.PipelinePoolSize, redis.DefaultPipelinePoolSize), 0)
}

// String is the endpoint for logs and errors, without credentials.
func (e *endpoint) String() string {
	list := strings.Join(e.addrs, ",")
	if e.mode == modeSentinel {
		return fmt.Sprintf("master %s of sentinels %s", e.options.MasterName, list)
	}
	return list
}

// connect builds the go-redis client for the endpoint, whose connections all come
// from dial. It does no I/O.
func (e *endpoint) connect(dial dialFunc) redis.UniversalClient {
	o := e.options
	o.Addrs, o.Dialer = e.addrs, dial
	if e.tls != nil {
		o.TLSConfig = e.tls.config // shown by Options; our dialer does the handshake
	}
	o.MinIdleConns = 0 // see idleKeeper
	switch e.mode {
	case modeSentinel:
		return connectSentinel(o.Failover())
	case modeCluster:
		cluster := o.Cluster()
		cluster.NewClient = newNode
		return redis.NewClusterClient(cluster)
	default:
		single := o.Simple()
		single.Network = e.network
		return redis.NewClient(single)
	}
}
