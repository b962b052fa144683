package tlsmux

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// acmeProtocol is what a validation connection offers (RFC 8737 §6.2).
const acmeProtocol = "acme-tls/1"

// DomainConfig says how to get a real certificate by ACME (RFC 8555).
type DomainConfig struct {
	Domain string
	Email  string // for expiry notices, may be empty
	Dir    string // where certificates and the account are kept
	CA     string // ACME directory URL; empty for Let's Encrypt
	Log    *slog.Logger
}

// DomainTLSConfig returns a configuration whose certificate for the domain is
// obtained and renewed in the background, by the TLS-ALPN challenge on port 443 or
// the HTTP challenge on port 80, whichever reaches this host. For other names, and
// until the certificate has come, the local authority signs: a bot on this host
// dials localhost, and a warning says more than a failed handshake. The work ends
// with ctx.
func DomainTLSConfig(ctx context.Context, cfg DomainConfig, local *Authority) (*tls.Config, error) {
	log := zap.New(bridge{cfg.Log.With("domain", cfg.Domain)})
	var magic *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return magic, nil },
		Logger:           log,
	})
	magic = certmagic.New(cache, certmagic.Config{Storage: &certmagic.FileStorage{Path: cfg.Dir}, Logger: log})
	issuer := certmagic.ACMEIssuer{Email: cfg.Email, Agreed: true, CA: certmagic.LetsEncryptProductionCA, Logger: log}
	if cfg.CA != "" {
		issuer.CA = cfg.CA
	}
	magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(magic, issuer)}
	if err := magic.ManageAsync(ctx, []string{cfg.Domain}); err != nil {
		cache.Stop()
		return nil, fmt.Errorf("certificate for %s: %w", cfg.Domain, err)
	}
	context.AfterFunc(ctx, cache.Stop)
	c := local.TLSConfig()
	c.NextProtos = append(c.NextProtos, acmeProtocol)
	c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if slices.Contains(hello.SupportedProtos, acmeProtocol) {
			return magic.GetCertificate(hello)
		}
		if strings.EqualFold(hello.ServerName, cfg.Domain) {
			if real, err := magic.GetCertificate(hello); err == nil {
				return real, nil
			}
		}
		return local.certificate(hello)
	}
	return c, nil
}

// bridge writes what certmagic logs, through zap, to the server's own log.
type bridge struct{ to *slog.Logger }

// Enabled lets debug lines go: certmagic's are many.
func (b bridge) Enabled(l zapcore.Level) bool {
	return l > zapcore.DebugLevel && b.to.Enabled(context.Background(), level(l))
}

// With adds fields to every line.
func (b bridge) With(fields []zapcore.Field) zapcore.Core {
	return bridge{b.to.With(attributes(fields)...)}
}

// Check takes the line if it is to be written.
func (b bridge) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return c.AddCore(e, b)
	}
	return c
}

// Write writes one line.
func (b bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	b.to.Log(context.Background(), level(e.Level), "certificate: "+e.Message, attributes(fields)...)
	return nil
}

// Sync has nothing to do.
func (b bridge) Sync() error { return nil }

// level turns what is only progress into debug.
func level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

func attributes(fields []zapcore.Field) []any {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(m)
	}
	out := make([]any, 0, 2*len(fields))
	for _, f := range fields {
		if v, ok := m.Fields[f.Key]; ok {
			out = append(out, f.Key, v)
		}
	}
	return out
}
