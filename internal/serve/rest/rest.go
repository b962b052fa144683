package rest

import (
	"crypto/sha256"
	"hash/maphash"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

// Policies of Config.Registration.
const (
	RegistrationOpen   = "open"   // anybody may make an account
	RegistrationInvite = "invite" // with a valid invite only
	RegistrationClosed = "closed" // nobody; the operator makes accounts
)

// Config is what the API says of the server and how it guards it.
type Config struct {
	Node   string
	Number uint16 // of the ids made here, 0 to 1023, nobody else's in the fleet
	// Route returns the bus subject of a guild's owner.
	Route func(proto.Snowflake) string
	// Regions returns the voice regions that there are now, in order; nil for none.
	Regions      func() []string
	Name         string // of the instance, for people
	Version      string
	Region       string
	Registration string // one of the policies; "" is invite
	// AdminToken opens the admin API; empty closes it.
	AdminToken string
	// PublicURL is where people reach the server when a proxy stands in front of
	// it: its scheme is the gateway's when a request names its host, and the
	// proxy is believed about whom a request comes from.
	PublicURL   string
	GatewayPath string // "" is /gateway
	// Registrations is how many accounts one address may make in ten minutes; 0
	// is 60.
	Registrations int
	Log           *slog.Logger
	Metrics       prometheus.Registerer // nil for none
}

// Service answers /api/… and /admin/…. It is an http.Handler and safe for
// concurrent use.
type Service struct {
	cfg      Config
	log      *slog.Logger
	bus      *bus.Bus
	store    *store.Store
	public   *http.ServeMux
	operator *http.ServeMux
	admin    [sha256.Size]byte // hash of the admin token
	hasher   *hasher
	channels channelGuilds
	pending  interactions
	now      func() clock.Time
	metrics  *metrics

	seed    maphash.Seed
	limitMu sync.Mutex
	users   *limiter // by token's user
	clients *limiter // by address, apart so that addresses cannot push users out

	idMu sync.Mutex
	ids  *proto.Generator
}

// New returns a service over b and st.
func New(cfg Config, b *bus.Bus, st *store.Store) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.GatewayPath == "" {
		cfg.GatewayPath = "/gateway"
	}
	if cfg.Registration == "" {
		cfg.Registration = RegistrationInvite
	}
	if cfg.Registrations == 0 {
		cfg.Registrations = 60
	}
	s := &Service{
		cfg: cfg, log: cfg.Log, bus: b, store: st,
		admin:   sha256.Sum256([]byte(cfg.AdminToken)),
		now:     monotonic.Now,
		hasher:  newHasher(2),
		metrics: newMetrics(cfg.Metrics),
		seed:    maphash.MakeSeed(),
		users:   newLimiter(1 << 15),
		clients: newLimiter(1 << 15),
		ids:     proto.NewGenerator(cfg.Number),
	}
	s.public = s.mux(s.instanceRoutes(), s.accountRoutes(), s.userRoutes(), s.guildRoutes(), s.channelRoutes(),
		s.commandRoutes(), s.interactionRoutes())
	s.operator = s.mux(s.adminRoutes())
	return s
}

// newID returns a fresh id.
func (s *Service) newID() proto.Snowflake {
	s.idMu.Lock()
	defer s.idMu.Unlock()
	return s.ids.Next(time.Now())
}
