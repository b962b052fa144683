package warm

import (
	"crypto/aes"
	"crypto/cipher"
	"testing"
)

func TestTouchReadsEachLine(t *testing.T) {
	var value [3*line + 1]byte
	o := Of(&value)
	if o.size != uintptr(len(value)) {
		t.Fatalf("%d bytes", o.size)
	}
	for i := range value {
		value[i] = 7
		want := byte(0)
		if i%line == 0 {
			want = 7
		}
		if got := o.Touch(); got != want {
			t.Errorf("byte %d: %d", i, got)
		}
		value[i] = 0
	}
}

func TestNothingToTouch(t *testing.T) {
	var none *int
	for _, v := range []any{nil, none, 5, struct{}{}, &struct{}{}} {
		if got := Of(v).Touch(); got != 0 {
			t.Errorf("%T: %d", v, got)
		}
	}
}

// TestKeysOfAnAEAD holds what the standard library keeps for AES-GCM to be one object: its
// key schedule of 240 bytes and its table of 256 at least.
func TestKeysOfAnAEAD(t *testing.T) {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	o := Of(aead)
	if o.size < 240 || o.size > 4096 {
		t.Errorf("%d bytes", o.size)
	}
	if n := testing.AllocsPerRun(100, func() { o.Touch() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
