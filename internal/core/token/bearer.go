package token

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"io"
	"strings"
	"time"

	"hubbub.dev/hubbub/proto"
)

// NewBearer returns a fresh bearer token for user in the three-part form that
// Discord's libraries expect: base64 of the decimal user id, base64 of the
// second it was made, and 27 bytes from random. Only its Hash is kept.
func NewBearer(user proto.Snowflake, now time.Time, random io.Reader) (string, error) {
	var secret [27]byte
	if _, err := io.ReadFull(random, secret[:]); err != nil {
		return "", err
	}
	var at [4]byte
	binary.BigEndian.PutUint32(at[:], uint32(now.Unix()-proto.Epoch/1000))
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(user.String())) + "." + e.EncodeToString(at[:]) + "." + e.EncodeToString(secret[:]), nil
}

// BearerUser returns the user a bearer token names, without proving it.
func BearerUser(bearer string) (proto.Snowflake, bool) {
	if len(bearer) > 256 {
		return 0, false
	}
	head, rest, ok := strings.Cut(bearer, ".")
	if !ok || strings.Count(rest, ".") != 1 {
		return 0, false
	}
	id, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		return 0, false
	}
	user, err := proto.ParseSnowflake(string(id))
	return user, err == nil
}

// Hash returns what is stored of a bearer token. A plain SHA-256 is enough: the
// secret part has 216 bits.
func Hash(bearer string) [32]byte { return sha256.Sum256([]byte(bearer)) }
