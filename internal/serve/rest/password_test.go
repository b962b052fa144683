package rest

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestHasher(t *testing.T) {
	h := newHasher(2)
	ctx := context.Background()
	phc, err := h.hash(ctx, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %q is not in PHC form with the written costs", phc)
	}
	if again, _ := h.hash(ctx, "correct horse"); again == phc {
		t.Error("two hashes of one password are equal: the salt is not random")
	}
	for _, c := range []struct {
		phc, password string
		want          bool
	}{
		{phc, "correct horse", true},
		{phc, "correct horsf", false},
		{phc, "", false},
		{"", "correct horse", false},
		{"", "", false},
	} {
		got, err := h.verify(ctx, c.phc, c.password)
		if err != nil || got != c.want {
			t.Errorf("verify(%.12q, %q) = %v, %v; want %v", c.phc, c.password, got, err, c.want)
		}
	}
}

func TestHasherWaitsForASlot(t *testing.T) {
	h := newHasher(1)
	h.slots <- struct{}{}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.hash(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("hash with no slot: %v, want context.Canceled", err)
	}
	if _, err := h.verify(ctx, "", "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("verify with no slot: %v, want context.Canceled", err)
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add(newHasher(1).decoy)
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2i$v=19$$$")
	f.Fuzz(func(t *testing.T, phc string) {
		h, err := parseHash(phc)
		if err == nil && (h.memory > maxArgonMemory || h.threads == 0 || h.time == 0 || len(h.key) < 16) {
			t.Errorf("%q was let through as %+v", phc, h)
		}
	})
}
