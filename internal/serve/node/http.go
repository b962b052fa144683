package node

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTimeout bounds what /readyz waits for the database.
const readyTimeout = 2 * time.Second

// routes puts everything that speaks HTTP behind one port.
func (n *Node) routes() http.Handler {
	mux := http.NewServeMux()
	if n.rest != nil {
		mux.Handle("/api/", n.rest)
		mux.Handle("/admin/", n.rest)
	}
	if n.gateway != nil {
		mux.Handle("/gateway", n.gateway)
		mux.Handle("/gateway/", n.gateway)
	}
	for _, o := range n.orders() {
		mux.Handle("POST /admin/v1/"+o.name, &o)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeStatus(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", n.ready)
	mux.Handle("GET /metrics", n.private(promhttp.HandlerFor(n.metrics, promhttp.HandlerOpts{})))
	mux.HandleFunc("GET /ca.pem", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-x509-ca-cert")
		_, _ = w.Write(n.authority.PEM())
	})
	if n.app != nil {
		mux.Handle("/", n.app)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Libraries dial the voice endpoint at whatever path they like, so what
		// tells it from the app is the upgrade alone.
		if n.voice != nil && isWebSocket(r) && !strings.HasPrefix(r.URL.Path, "/gateway") {
			n.voice.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func isWebSocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// ready answers 200 when this node can serve a join, and otherwise 503 naming
// what is missing.
func (n *Node) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	missing := map[string]string{}
	if n.store != nil {
		if err := n.store.Ping(ctx); err != nil {
			missing["database"] = err.Error()
		}
	}
	if !n.bus.Connected() {
		missing["bus"] = "not connected"
	}
	switch {
	case n.closing.Load():
		missing["node"] = "shutting down"
	case n.draining.Load():
		missing["node"] = "draining"
	}
	if len(missing) > 0 {
		writeStatus(w, http.StatusServiceUnavailable, map[string]any{"status": "not ready", "missing": missing})
		return
	}
	writeStatus(w, http.StatusOK, map[string]string{"status": "ready"})
}

// private lets in what comes from this host or its private network, or bears the
// admin token: metrics are the operator's.
func (n *Node) private(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		near := err == nil && !forwarded(r) && (from.Addr().IsLoopback() || from.Addr().Unmap().IsPrivate())
		if near || subtle.ConstantTimeCompare([]byte(bearer), []byte(n.adminToken)) == 1 {
			next.ServeHTTP(w, r)
			return
		}
		http.Error(w, "403 the metrics are for this host, its private network, or the admin token", http.StatusForbidden)
	})
}

// forwarded reports whether a proxy passed a request on: its own address then says
// nothing of where the request comes from.
func forwarded(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip"} {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	return false
}

func writeStatus(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// readTimeout bounds a request with its body, writeTimeout the response, so that
// whoever sends or takes byte by byte is cut. The largest file of the app fits
// through 2 KiB/s. WebSockets, being hijacked, have bounds of their own.
const (
	readTimeout  = 30 * time.Second
	writeTimeout = 2 * time.Minute
)

// newServer returns the HTTP server. Its errors (failed handshakes, mostly) are
// debug noise and would carry addresses, so they stay out of the log.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(scrub{log.Handler()}, slog.LevelDebug),
	}
}

// scrub drops net/http's own lines, which name client addresses, and leaves a
// count of them to the debug log.
type scrub struct{ slog.Handler }

// Handle replaces the message.
func (s scrub) Handle(ctx context.Context, r slog.Record) error {
	return s.Handler.Handle(ctx, slog.NewRecord(r.Time, r.Level, "http: a connection was refused or broke", r.PC))
}

func portOf(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
