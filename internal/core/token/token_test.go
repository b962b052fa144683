package token

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/proto"
)

var key = []byte("0123456789abcdef0123456789abcdef")

func sample(at time.Time) Voice {
	return Voice{
		Guild: 1, Channel: 2, User: 3, Join: 4, Permissions: proto.PermSpeak | proto.PermConnect,
		Mute: true, SelfDeaf: true, Bitrate: 64000, Expires: at.Add(VoiceLifetime), Session: "abcdef",
	}
}

func TestVoiceSurvivesTheWire(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	want := sample(now)
	got, err := VerifyVoice(key, want.Sign(key), now)
	if err != nil || got != want {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := VerifyVoice(key, want.Sign(key), want.Expires.Add(1)); !errors.Is(err, ErrExpired) {
		t.Errorf("after its time: %v", err)
	}
	if _, err := VerifyVoice([]byte("another"), want.Sign(key), now); !errors.Is(err, ErrSignature) {
		t.Errorf("under another key: %v", err)
	}
}

// TestVoiceCannotBeChanged flips every character: none may pass.
func TestVoiceCannotBeChanged(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	s := sample(now).Sign(key)
	for i := range s {
		b := []byte(s)
		b[i] ^= 1
		if got, err := VerifyVoice(key, string(b), now); err == nil && string(b) != s {
			// The last character holds bits that base64 ignores.
			if i != len(s)-1 || got != sample(now) {
				t.Fatalf("character %d changed and still verified: %+v", i, got)
			}
		}
	}
}

func FuzzVerifyVoice(f *testing.F) {
	now := time.UnixMilli(1_800_000_000_000)
	f.Add(sample(now).Sign(key))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := VerifyVoice(key, s, now); err == nil && v != sample(now) {
			t.Fatalf("%q verified as %+v", s, v)
		}
	})
}

func TestBearerNamesItsUser(t *testing.T) {
	s, err := NewBearer(41771983423143937, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(s, ".") != 2 {
		t.Errorf("%d parts, want 3", strings.Count(s, ".")+1)
	}
	if user, ok := BearerUser(s); !ok || user != 41771983423143937 {
		t.Errorf("names %d, %v", user, ok)
	}
	for _, bad := range []string{"", "a.b", "a.b.c", "....", strings.Repeat("a", 1000), "MA.a.b"} {
		if user, ok := BearerUser(bad); ok {
			t.Errorf("%q names %d", bad, user)
		}
	}
	if _, err := NewBearer(1, time.Now(), strings.NewReader("short")); err == nil {
		t.Error("too little randomness was accepted")
	}
}
