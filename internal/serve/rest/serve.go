package rest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"hash/maphash"
	"math"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

// serve takes one request of a known route through every gate, the cheapest
// first, and answers it.
func (s *Service) serve(m *mounted, w http.ResponseWriter, r *http.Request) {
	began := s.now()
	req := &request{ctx: r.Context(), http: r, client: s.clientAddr(r)}
	answer, err := s.admit(m, w, req)
	if err == nil {
		answer, err = m.handle(req)
	}
	status := answer.status
	if err != nil {
		status = s.refuse(w, r, m.pattern, req.client, err)
	} else {
		write(w, status, answer.body)
		s.countInvalid(req.client, status)
	}
	s.metrics.served(m.pattern, status, s.now().Sub(began))
}

// admit authenticates, limits, and checks path and body.
func (s *Service) admit(m *mounted, w http.ResponseWriter, req *request) (reply, error) {
	if v := s.ofClient(req.client, "invalid", "", invalidRequests, 0); !v.ok {
		return reply{}, &limited{after: v.after, scope: "global", bucket: m.bucket}
	}
	if err := s.authenticate(m.auth, req); err != nil {
		return reply{}, err
	}
	if err := s.limit(m, w, req); err != nil {
		return reply{}, err
	}
	if err := parsePath(m, req); err != nil {
		return reply{}, err
	}
	body, err := readBody(w, req.http)
	req.body = body
	return reply{}, err
}

// authenticate finds who sends the request. The scheme before the token ("Bot",
// "Bearer" or none) does not matter: the token says who it is.
func (s *Service) authenticate(a auth, req *request) error {
	if a == anybody {
		return nil
	}
	header := req.http.Header.Get("Authorization")
	scheme, bearer, found := strings.Cut(header, " ")
	if !found {
		scheme, bearer = "", header
	}
	if a == operator {
		sum := sha256.Sum256([]byte(bearer))
		if s.cfg.AdminToken == "" || scheme != "Bearer" || subtle.ConstantTimeCompare(sum[:], s.admin[:]) != 1 {
			return plain(http.StatusUnauthorized)
		}
		req.admin = true
		return nil
	}
	named, wellFormed := token.BearerUser(bearer)
	if !wellFormed {
		return plain(http.StatusUnauthorized)
	}
	req.bearer, req.token = bearer, token.Hash(bearer)
	user, err := s.store.UserByToken(req.ctx, req.token)
	if errors.Is(err, store.ErrNotFound) || (err == nil && user.ID != named) {
		return plain(http.StatusUnauthorized)
	}
	if err != nil {
		return err
	}
	req.user = user
	switch {
	case a == person && user.Bot:
		return fail(http.StatusForbidden, codeUsersOnly, "Bots cannot use this endpoint")
	case a == bot && !user.Bot:
		return fail(http.StatusForbidden, proto.ErrBotsOnly, "Only bots can use this endpoint")
	}
	return nil
}

// limit counts the request against the global quota and its bucket, whose
// headers it sets. The operator is not limited.
func (s *Service) limit(m *mounted, w http.ResponseWriter, req *request) error {
	if req.admin {
		return nil
	}
	take := func(bucket, major string, q quota) verdict {
		if req.user.ID == 0 {
			return s.ofClient(req.client, bucket, major, q, 1)
		}
		return s.take(s.users, limitKey{bucket: bucket, major: major, user: req.user.ID}, q, 1)
	}
	if !m.free {
		if v := take("global", "", global); !v.ok {
			return &limited{after: v.after, scope: "global", bucket: m.bucket}
		}
	}
	v := take(m.bucket, major(req.http), m.quota)
	h := w.Header()
	h.Set("X-RateLimit-Limit", strconv.Itoa(m.quota.count))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(v.remaining))
	h.Set("X-RateLimit-Reset", seconds(time.Duration(time.Now().Add(v.after).UnixNano())))
	h.Set("X-RateLimit-Reset-After", seconds(v.after))
	h.Set("X-RateLimit-Bucket", m.bucket)
	if !v.ok {
		return &limited{after: v.after, scope: "user", bucket: m.bucket}
	}
	return nil
}

// major returns the path variable that splits a bucket.
func major(r *http.Request) string {
	for _, name := range []string{"guild", "channel", "token"} {
		if v := r.PathValue(name); v != "" {
			return v
		}
	}
	return ""
}

// limitKey is what a window counts. Exactly one of user and client is set.
type limitKey struct {
	bucket, major string
	user          proto.Snowflake
	client        netip.Addr
}

func (s *Service) take(l *limiter, key limitKey, q quota, cost int) verdict {
	hash := maphash.Comparable(s.seed, key)
	s.limitMu.Lock()
	defer s.limitMu.Unlock()
	return l.take(hash, q, cost, s.now())
}

func (s *Service) ofClient(client netip.Addr, bucket, major string, q quota, cost int) verdict {
	return s.take(s.clients, limitKey{bucket: bucket, major: major, client: client}, q, cost)
}

// clientAddr returns whom to limit: an IPv4 address, or the /64 of an IPv6 one,
// since that is what one household has. With a public URL there is a proxy in
// front, which names the client at the end of X-Forwarded-For; it is believed
// only from a private address.
func (s *Service) clientAddr(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := at.Addr().Unmap()
	if s.cfg.PublicURL != "" && (addr.IsLoopback() || addr.IsPrivate()) {
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		if client, err := netip.ParseAddr(strings.TrimSpace(hops[len(hops)-1])); err == nil {
			addr = client.Unmap()
		}
	}
	if addr.Is4() {
		return addr
	}
	network, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return netip.Addr{}
	}
	return network.Addr()
}

// parsePath reads the ids of the path; "@me" is the caller's own.
func parsePath(m *mounted, req *request) error {
	req.ids = make(map[string]proto.Snowflake, len(m.ids))
	for _, name := range m.ids {
		v := req.http.PathValue(name)
		if name == "user" && v == "@me" && req.user.ID != 0 {
			req.ids[name] = req.user.ID
			continue
		}
		id, err := proto.ParseSnowflake(v)
		if err != nil {
			return notSnowflake(name+"_id", v)
		}
		req.ids[name] = id
	}
	for _, name := range m.texts {
		if len(req.http.PathValue(name)) > maxText {
			return plain(http.StatusNotFound)
		}
	}
	return nil
}

// limited is the failure of a request over a quota.
type limited struct {
	after  time.Duration
	scope  string // "user" or "global"
	bucket string
}

// Error says how long to wait.
func (l *limited) Error() string { return "rate limited for " + l.after.String() }

// seconds writes a duration as a decimal number of seconds, to the millisecond.
func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) }

// refuse answers with a failure and returns its status.
func (s *Service) refuse(w http.ResponseWriter, r *http.Request, route string, client netip.Addr, err error) int {
	if l, ok := errors.AsType[*limited](err); ok {
		s.tooMany(w, l)
		s.countInvalid(client, http.StatusTooManyRequests)
		return http.StatusTooManyRequests
	}
	api, ok := errors.AsType[*proto.APIError](err)
	if !ok {
		if r.Context().Err() == nil {
			s.log.Error("request failed", "route", route, "err", err)
		}
		api = plain(http.StatusInternalServerError).(*proto.APIError)
	}
	write(w, api.Status, api.ErrorBody)
	s.countInvalid(client, api.Status)
	return api.Status
}

// tooMany answers 429. The bucket is named for a global limit too, since disgo
// reads no limit from an answer without one.
func (s *Service) tooMany(w http.ResponseWriter, l *limited) {
	s.metrics.limited.WithLabelValues(l.scope).Inc()
	h := w.Header()
	h.Set("Retry-After", strconv.Itoa(int(math.Ceil(l.after.Seconds()))))
	h.Set("X-RateLimit-Scope", l.scope)
	h.Set("X-RateLimit-Bucket", l.bucket)
	if l.scope == "global" {
		h.Set("X-RateLimit-Global", "true")
		h.Set("X-RateLimit-Reset-After", seconds(l.after))
	}
	after, _ := strconv.ParseFloat(seconds(l.after), 64)
	write(w, http.StatusTooManyRequests, proto.RateLimitBody{
		Message: "You are being rate limited.", RetryAfter: after, Global: l.scope == "global"})
}

// countInvalid counts what hammers the API with refused requests.
func (s *Service) countInvalid(client netip.Addr, status int) {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		s.ofClient(client, "invalid", "", invalidRequests, 1)
	}
}

// write encodes an answer; a body that cannot be encoded is a bug and panics
// into survive.
func write(w http.ResponseWriter, status int, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	raw, ok := body.(json.RawMessage)
	if !ok {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			panic(err)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(raw) // a client that is gone needs no answer
}

// survive turns a panic in a handler into a 500.
func (s *Service) survive(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	s.log.Error("handler panicked", "method", r.Method, "panic", p, "stack", string(debug.Stack()))
	write(w, http.StatusInternalServerError, plain(http.StatusInternalServerError).(*proto.APIError).ErrorBody)
}
