package tlsmux

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	// leafLife stays under the 398 days that browsers accept.
	leafLife = 90 * 24 * time.Hour
	// maxLeaves bounds the certificates kept for names that clients ask for.
	maxLeaves = 64
)

// Authority is a local certificate authority kept in a data directory: ca.pem
// to hand out and ca-key.pem to keep. It issues a certificate for whatever name
// or address a client asks for, because nobody trusts it who was not told to.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	path string

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

// The files of an authority.
const (
	certFile = "ca.pem"
	keyFile  = "ca-key.pem"
)

// OpenAuthority reads the authority of dir, or makes one.
func OpenAuthority(dir string) (*Authority, error) {
	path := filepath.Join(dir, certFile)
	cert, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return create(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("local CA: %w", err)
	}
	key, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("local CA: %w", err)
	}
	a, err := parse(dir, cert, key)
	if err != nil {
		return nil, fmt.Errorf("local CA: %s and its key do not fit (delete both to make new ones): %w", path, err)
	}
	return a, nil
}

// AdoptAuthority makes another's authority, of which bundle was taken, that of dir.
func AdoptAuthority(dir string, bundle []byte) (*Authority, error) {
	a, err := parse(dir, bundle, bundle)
	if err != nil {
		return nil, fmt.Errorf("local CA: %w", err)
	}
	return a, a.save()
}

// parse reads an authority from PEM: the first certificate of one text, the first key
// of the other.
func parse(dir string, cert, key []byte) (*Authority, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("its key cannot sign")
	}
	if !pair.Leaf.IsCA {
		return nil, errors.New("its certificate is not that of an authority")
	}
	return &Authority{
		cert: pair.Leaf, key: signer, path: filepath.Join(dir, certFile), leaves: map[string]*tls.Certificate{},
	}, nil
}

func create(dir string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Hubbub local CA on " + host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &Authority{cert: cert, key: key, path: filepath.Join(dir, certFile), leaves: map[string]*tls.Certificate{}}
	return a, a.save()
}

// save writes both files. The certificate comes last: OpenAuthority makes a new
// authority where there is none.
func (a *Authority) save() error {
	key, err := a.keyPEM()
	if err != nil {
		return fmt.Errorf("local CA: %w", err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(a.path), keyFile), key, 0o600); err != nil {
		return fmt.Errorf("local CA: %w", err)
	}
	if err := os.WriteFile(a.path, a.PEM(), 0o644); err != nil {
		return fmt.Errorf("local CA: %w", err)
	}
	return nil
}

func (a *Authority) keyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Bundle returns the certificate and the key, for AdoptAuthority. Whoever has it can
// pose as any server to those who trust the authority.
func (a *Authority) Bundle() ([]byte, error) {
	key, err := a.keyPEM()
	return append(a.PEM(), key...), err
}

// Path returns the file that clients are told to trust.
func (a *Authority) Path() string { return a.path }

// PEM returns the authority's own certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// TLSConfig returns a configuration that issues a certificate on demand. HTTP/2
// is not offered: WebSockets need HTTP/1.1.
func (a *Authority) TLSConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: a.certificate}
}

func (a *Authority) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(hello.ServerName)
	if name == "" {
		// A client that dialled an address sends no name (RFC 6066 §3).
		host, _, err := net.SplitHostPort(hello.Conn.LocalAddr().String())
		if err != nil {
			return nil, err
		}
		name = host
	}
	if len(name) > 253 {
		return nil, errors.New("server name too long")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.leaves[name]; c != nil && time.Until(c.Leaf.NotAfter) > leafLife/3 {
		return c, nil
	}
	if len(a.leaves) >= maxLeaves {
		clear(a.leaves)
	}
	c, err := a.issue(name)
	if err != nil {
		return nil, err
	}
	a.leaves[name] = c
	return c, nil
}

func (a *Authority) issue(name string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Hubbub"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = append(template.IPAddresses, ip)
	} else {
		template.DNSNames = append(template.DNSNames, name)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("certificate for %q: %w", name, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail (its documentation)
	}
	return n
}
