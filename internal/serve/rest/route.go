package rest

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// auth says who may call a route.
type auth int

const (
	signedIn auth = iota // a user or a bot with a token
	person               // a user, not a bot
	bot                  // a bot
	anybody              // no token needed; limited by address
	operator             // the admin token
)

// route is one line of the API. Its bucket is counted for each caller and for
// each guild, channel or webhook of the path (the major parameter).
type route struct {
	pattern string // method and path without the version: "GET /guilds/{guild}"
	handle  handler
	auth    auth
	quota   quota // zero: the usual one
	// free routes are outside of the global limit, as interaction callbacks are.
	free bool
}

// Quotas. The global one is for each user, or address where there is no user.
var (
	usual           = quota{40, 5 * time.Second}
	global          = quota{50, time.Second}
	invalidRequests = quota{10_000, 10 * time.Minute}
)

// texts are the path variables that are no ids.
var texts = []string{"code", "token", "name", "reply"}

// maxText bounds such a variable.
const maxText = 256

// mounted is a route as the mux serves it.
type mounted struct {
	route
	ids    []string // path variables that are ids
	texts  []string
	bucket string // X-RateLimit-Bucket
}

var pathVariable = regexp.MustCompile(`\{(\w+)\}`)

// mux builds the handler of some routes.
func (s *Service) mux(groups ...[]route) *http.ServeMux {
	mux := http.NewServeMux()
	for _, r := range slices.Concat(groups...) {
		if r.quota == (quota{}) {
			r.quota = usual
		}
		hash := fnv.New64a()
		hash.Write([]byte(r.pattern))
		m := &mounted{route: r, bucket: fmt.Sprintf("%016x", hash.Sum64())}
		for _, v := range pathVariable.FindAllStringSubmatch(r.pattern, -1) {
			if slices.Contains(texts, v[1]) {
				m.texts = append(m.texts, v[1])
			} else {
				m.ids = append(m.ids, v[1])
			}
		}
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(m, w, r) })
	}
	return mux
}

// ServeHTTP answers /api/… and /admin/v1/….
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	defer s.survive(w, r)
	rest, mux, err := s.version(r.URL.Path)
	if mux == s.public {
		allowOrigins(w.Header())
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	if err == nil {
		r, err = reroute(mux, r, rest)
	}
	if err != nil {
		s.refuse(w, r, "none", s.clientAddr(r), err)
		return
	}
	mux.ServeHTTP(w, r)
}

// version returns the path below the API's prefix and the routes it is for.
// Without a version it is the newest one's.
func (s *Service) version(p string) (string, *http.ServeMux, error) {
	if rest, ok := strings.CutPrefix(p, "/admin/v1/"); ok {
		return "/" + rest, s.operator, nil
	}
	rest, ok := strings.CutPrefix(p, "/api/")
	if !ok {
		return "", nil, plain(http.StatusNotFound)
	}
	rest = "/" + strings.TrimLeft(rest, "/")
	v, tail, _ := strings.Cut(rest[1:], "/")
	if len(v) < 2 || v[0] != 'v' || strings.Trim(v[1:], "0123456789") != "" {
		return rest, s.public, nil
	}
	if v != "v9" && v != "v10" {
		return "", s.public, fail(http.StatusBadRequest, 50041, "Invalid API version")
	}
	return "/" + tail, s.public, nil
}

// reroute returns r with the path that mux knows, or the failure for a path or
// method that it does not. Doubled slashes, which some libraries send, are one.
func reroute(mux *http.ServeMux, r *http.Request, p string) (*http.Request, error) {
	for strings.Contains(p, "//") {
		p = strings.ReplaceAll(p, "//", "/")
	}
	if path.Clean(p) != p {
		return r, plain(http.StatusNotFound)
	}
	inner := r.Clone(r.Context())
	inner.URL.Path, inner.URL.RawPath = p, ""
	h, pattern := mux.Handler(inner)
	if pattern != "" {
		return inner, nil
	}
	// The mux tells a wrong method from a wrong path only in its answer.
	verdict := statusOnly{header: http.Header{}}
	h.ServeHTTP(&verdict, inner)
	if verdict.status == http.StatusMethodNotAllowed {
		return r, plain(http.StatusMethodNotAllowed)
	}
	return r, plain(http.StatusNotFound)
}

type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }

// secure sets the headers of every answer. Via lets libraries tell a 429 of this
// server from one of a proxy before it.
func secure(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Via", "1.1 hubbub")
}

// allowOrigins lets pages of any origin call the public API: it knows no
// cookies, so a page can only use a token that it already has.
func allowOrigins(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Audit-Log-Reason, X-Super-Properties")
	h.Set("Access-Control-Expose-Headers", "Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, "+
		"X-RateLimit-Reset-After, X-RateLimit-Bucket, X-RateLimit-Scope, X-RateLimit-Global")
	h.Set("Access-Control-Max-Age", "86400")
}
