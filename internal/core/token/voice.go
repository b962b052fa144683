// Package token owns the two credentials that Hubbub makes: the signed voice
// token, which says all that a voice server needs to know so that it asks
// nobody, and the bearer token of users and bots. It never stores anything.
package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"hubbub.dev/hubbub/proto"
)

// Errors of Verify.
var (
	ErrMalformed = errors.New("voice token: malformed")
	ErrSignature = errors.New("voice token: wrong signature")
	ErrExpired   = errors.New("voice token: expired")
)

// VoiceLifetime is how long after it was made a voice token can begin a voice
// session. A session that exists is resumed with the same token at any age.
const VoiceLifetime = 10 * time.Minute

// Voice is what a voice token claims. Join numbers the joins of a guild: reports
// about an earlier join of the same user are stale.
type Voice struct {
	Guild       proto.Snowflake
	Channel     proto.Snowflake
	User        proto.Snowflake
	Join        uint64
	Permissions proto.Permissions
	// Mute is set when the server drops what the user says: muted by a
	// moderator, suppressed, or without SPEAK. Deaf likewise for hearing, SelfDeaf by the user's wish.
	Mute     bool
	Deaf     bool
	SelfDeaf bool
	Bitrate  uint32 // of the channel, bit/s
	Expires  time.Time
	Session  string
}

const voiceFixed = 1 + 8*5 + 1 + 4 + 8

// Sign returns the token for v: its binary form and an HMAC-SHA256 under key,
// both in one base64url string.
func (v Voice) Sign(key []byte) string {
	b := make([]byte, 0, voiceFixed+len(v.Session)+sha256.Size)
	b = append(b, 1) // version
	b = binary.BigEndian.AppendUint64(b, uint64(v.Guild))
	b = binary.BigEndian.AppendUint64(b, uint64(v.Channel))
	b = binary.BigEndian.AppendUint64(b, uint64(v.User))
	b = binary.BigEndian.AppendUint64(b, v.Join)
	b = binary.BigEndian.AppendUint64(b, uint64(v.Permissions))
	var flags byte
	for i, on := range []bool{v.Mute, v.Deaf, v.SelfDeaf} {
		if on {
			flags |= 1 << i
		}
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, v.Bitrate)
	b = binary.BigEndian.AppendUint64(b, uint64(v.Expires.UnixMilli()))
	b = append(b, v.Session...)
	return base64.RawURLEncoding.EncodeToString(append(b, mac(key, b)...))
}

// VerifyVoice checks the signature, then the lifetime, of a voice token.
func VerifyVoice(key []byte, s string, now time.Time) (Voice, error) {
	if len(s) > 512 {
		return Voice{}, ErrMalformed
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) < voiceFixed+sha256.Size || b[0] != 1 {
		return Voice{}, ErrMalformed
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if !hmac.Equal(sum, mac(key, body)) {
		return Voice{}, ErrSignature
	}
	id := func(i int) uint64 { return binary.BigEndian.Uint64(body[1+8*i:]) }
	flags := body[41]
	v := Voice{
		Guild: proto.Snowflake(id(0)), Channel: proto.Snowflake(id(1)), User: proto.Snowflake(id(2)),
		Join: id(3), Permissions: proto.Permissions(id(4)),
		Mute: flags&1 != 0, Deaf: flags&2 != 0, SelfDeaf: flags&4 != 0,
		Bitrate: binary.BigEndian.Uint32(body[42:]),
		Expires: time.UnixMilli(int64(binary.BigEndian.Uint64(body[46:]))),
		Session: string(body[voiceFixed:]),
	}
	if now.After(v.Expires) {
		return v, ErrExpired
	}
	return v, nil
}

func mac(key, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("hubbub voice token\x00"))
	h.Write(body)
	return h.Sum(nil)
}
