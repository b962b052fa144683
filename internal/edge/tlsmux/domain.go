package tlsmux

import (
	"context"
	"crypto/tls"
	"fmt"

	"github.com/caddyserver/certmagic"
)

// DomainConfig says how to get a real certificate by ACME (RFC 8555).
type DomainConfig struct {
	Domain string
	Email  string // for expiry notices, may be empty
	Dir    string // where certificates and the account are kept
	CA     string // ACME directory URL; empty for Let's Encrypt
}

// DomainTLSConfig returns a configuration whose certificate is obtained and
// renewed in the background, by the TLS-ALPN challenge on port 443 or the HTTP
// challenge on port 80, whichever reaches this host. The work ends with ctx.
func DomainTLSConfig(ctx context.Context, cfg DomainConfig) (*tls.Config, error) {
	storage := &certmagic.FileStorage{Path: cfg.Dir}
	var magic *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return magic, nil },
	})
	magic = certmagic.New(cache, certmagic.Config{Storage: storage})
	issuer := certmagic.ACMEIssuer{Email: cfg.Email, Agreed: true, CA: certmagic.LetsEncryptProductionCA}
	if cfg.CA != "" {
		issuer.CA = cfg.CA
	}
	magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(magic, issuer)}
	if err := magic.ManageAsync(ctx, []string{cfg.Domain}); err != nil {
		cache.Stop()
		return nil, fmt.Errorf("certificate for %s: %w", cfg.Domain, err)
	}
	context.AfterFunc(ctx, cache.Stop)
	c := magic.TLSConfig()
	c.MinVersion = tls.VersionTLS12
	c.NextProtos = append([]string{"http/1.1"}, c.NextProtos...)
	return c, nil
}
