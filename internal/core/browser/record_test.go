package browser

import (
	"bytes"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/rtp"
)

// kept is a browser transport over a record, as a worker makes it.
type kept struct {
	in       *Inbound
	out      *Outbound
	rollover Rollover
}

func newKept(t rapid.TB, record *Record, table []Numbering) (k *kept, err error) {
	t.Helper()
	p, keying, err := record.Keys()
	if err != nil {
		return nil, err
	}
	clientKey, clientSalt, serverKey, serverSalt, err := KeysFromExporter(keying, p)
	if err != nil {
		t.Fatal(err)
	}
	k = &kept{}
	if k.in, err = NewInbound(p, clientKey, clientSalt); err != nil {
		t.Fatal(err)
	}
	if k.out, err = NewOutbound(p, serverKey, serverSalt); err != nil {
		t.Fatal(err)
	}
	k.rollover.Keep(table, record)
	return k, record.Keep(k.in, k.out)
}

// TestNoIndexIsUsedTwice has a browser's transport die and go on from its record, with
// what it hears and sends in between.
func TestNoIndexIsUsedTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		profile := rapid.SampledFrom([]Profile{AEADAES128GCM, AESCM128SHA180}).Draw(t, "profile")
		var record Record
		table := make([]Numbering, MaxSlots)
		if !record.Begin("ufrag", "password", false) {
			t.Fatal("a blank record is another's")
		}
		if _, keying, err := record.Keys(); keying != nil || err != nil {
			t.Fatalf("keys before DTLS: %x, %v", keying, err)
		}
		keying := bytes.Repeat([]byte{7}, profile.MaterialSize())
		record.SetKeys(profile, keying)
		life, err := newKept(t, &record, table)
		if err != nil {
			t.Fatal(err)
		}
		clientKey, clientSalt, _, _, err := KeysFromExporter(keying, profile)
		if err != nil {
			t.Fatal(err)
		}
		client, err := NewOutbound(profile, clientKey, clientSalt)
		if err != nil {
			t.Fatal(err)
		}
		type number struct {
			source int
			index  uint32
		}
		numbers, controls := map[number]bool{}, map[uint32]bool{}
		sources := []uint64{1 << 16, 1<<17 - 3, 1 << 20}
		sending := rapid.Uint64Range(0, 1<<18).Draw(t, "client's first")
		first := true
		pkt := make([]byte, 200)
		var last []byte
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"media", "media", "report", "open", "open", "again", "control", "die", "damage"}).Draw(t, "step") {
			case "media":
				source := rapid.IntRange(0, len(sources)-1).Draw(t, "source")
				sources[source] += rapid.SampledFrom([]uint64{1, 1, 1, 2, 100, maxGap, 1 << 15, 1 << 17}).Draw(t, "gap")
				seq, roc, ok := life.rollover.Place(source, sources[source])
				n := number{source, roc<<16 | uint32(seq)}
				if !ok || numbers[n] {
					t.Fatalf("source %d: index %d, ok %v, is used twice: %v", source, n.index, ok, numbers[n])
				}
				numbers[n] = true
			case "report":
				life.out.SealRTCP(pkt, []byte("\x80\xc9\x00\x01\x00\x00\x00\x01"))
				if used := life.out.Index() - 1; controls[used] {
					t.Fatalf("SRTCP index %d is used twice", used)
				} else {
					controls[used] = true
				}
			case "open":
				if first && sending>>16 > 0 {
					sending = sending & 0xFFFF // as a browser begins
				}
				first = false
				sending++
				h := rtp.Header{PayloadType: 111, Sequence: uint16(sending), SSRC: 9}
				n := client.Seal(pkt, h, rtp.LevelExtension{}, []byte("opus"), uint32(sending>>16))
				last = append([]byte(nil), pkt[:n]...)
				if _, drop := life.in.Open(pkt[:n]); drop != rtp.Accepted {
					t.Fatalf("packet %d: %v", sending, drop)
				}
			case "again":
				if last != nil {
					if _, drop := life.in.Open(append([]byte(nil), last...)); drop != rtp.Replayed {
						t.Fatalf("packet %d again: %v", sending, drop)
					}
				}
			case "control":
				n := client.SealRTCP(pkt, []byte("\x80\xc9\x00\x01\x00\x00\x00\x09"))
				again := append([]byte(nil), pkt[:n]...)
				if _, drop := life.in.OpenRTCP(pkt[:n]); drop != rtp.Accepted {
					t.Fatalf("control: %v", drop)
				}
				if _, drop := life.in.OpenRTCP(again); drop != rtp.Replayed {
					t.Fatalf("control again: %v", drop)
				}
			case "die":
				if !record.Begin("ufrag", "password", true) {
					t.Fatal("the record is another's")
				}
				if life, err = newKept(t, &record, table); err != nil {
					t.Fatal(err)
				}
			case "damage":
				if rapid.IntRange(0, 30).Draw(t, "rarely") > 0 {
					continue
				}
				raw := unsafe.Slice((*byte)(unsafe.Pointer(&record)), int(unsafe.Offsetof(record.received)))
				at := rapid.IntRange(0, len(raw)-1).Draw(t, "at")
				raw[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
				if !record.Begin("ufrag", "password", true) {
					return
				}
				if _, err := newKept(t, &record, table); err == nil {
					t.Fatalf("damage at %d is not noticed", at)
				}
				return
			}
		}
	})
}

func TestRetain(t *testing.T) {
	var record Record
	record.SetKeys(AEADAES128GCM, make([]byte, AEADAES128GCM.MaterialSize()))
	table := make([]Numbering, MaxSlots)
	var r Rollover
	r.Keep(table, &record)
	for slot := range 5 {
		r.Place(slot, 1<<16)
	}
	var next Rollover
	next.Keep(table, &record)
	next.Retain(func(slot int) bool { return slot == 3 })
	for slot := range 5 {
		if known := next.Next(slot) != 0; known != (slot == 3) {
			t.Errorf("slot %d known: %v", slot, known)
		}
	}
}

func TestTransportOfAnotherTime(t *testing.T) {
	var record Record
	if record.Begin("a", "b", true) {
		t.Error("a blank record is that of a transport in use")
	}
	record.Begin("a", "b", false)
	record.SetKeys(AEADAES128GCM, make([]byte, AEADAES128GCM.MaterialSize()))
	if record.Begin("a", "c", true) {
		t.Error("a record is that of another transport")
	}
	record.Begin("a", "c", false)
	if _, keying, err := record.Keys(); keying != nil || err != nil {
		t.Errorf("a new transport has keys %x, %v", keying, err)
	}
}
