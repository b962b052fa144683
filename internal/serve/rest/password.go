package rest

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Costs of argon2id: OWASP's second choice, 19 MiB and two passes.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	argonSalt    = 16
	argonKey     = 32
)

// maxArgonMemory bounds what a stored hash can make a verification cost.
const maxArgonMemory = 256 << 10

// errHashForm means that a stored hash is not argon2id in PHC form.
var errHashForm = errors.New("password hash: not argon2id in PHC string format")

// hasher makes and checks password hashes, a few at a time: each takes 19 MiB,
// so that a flood of log-ins waits instead of eating memory.
type hasher struct {
	slots chan struct{}
	// decoy is checked in place of the hash of a user who does not exist, so
	// that both take the same time.
	decoy string
}

func newHasher(concurrent int) *hasher {
	h := &hasher{slots: make(chan struct{}, concurrent)}
	h.decoy = encodeHash(make([]byte, argonSalt), make([]byte, argonKey))
	return h
}

// hash returns the PHC string of password. It fails when ctx ends first.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	salt := make([]byte, argonSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	return encodeHash(salt, argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKey)), nil
}

// verify reports whether password has the hash phc. An empty phc (nobody, or an
// account without a password) takes as long as any other and never matches.
func (h *hasher) verify(ctx context.Context, phc, password string) (bool, error) {
	known := phc != ""
	if !known {
		phc = h.decoy
	}
	p, err := parseHash(phc)
	if err != nil {
		return false, err
	}
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer h.leave()
	key := argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.threads, uint32(len(p.key)))
	return subtle.ConstantTimeCompare(key, p.key) == 1 && known, nil
}

func (h *hasher) enter(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hasher) leave() { <-h.slots }

type argonHash struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

func encodeHash(salt, key []byte) string {
	e := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		e.EncodeToString(salt), e.EncodeToString(key))
}

// parseHash reads a PHC string, whose costs may differ from today's.
func parseHash(phc string) (argonHash, error) {
	var h argonHash
	var version int
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return h, errHashForm
	}
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return h, errHashForm
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); err != nil {
		return h, errHashForm
	}
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.DecodeString(parts[4])
	h.key, err2 = base64.RawStdEncoding.DecodeString(parts[5])
	sane := h.memory > 0 && h.memory <= maxArgonMemory && h.time > 0 && h.time <= 16 && h.threads > 0 &&
		len(h.salt) >= 8 && len(h.key) >= 16 && len(h.key) <= 64
	if err1 != nil || err2 != nil || !sane {
		return h, errHashForm
	}
	return h, nil
}
