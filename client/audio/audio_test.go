package audio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"testing"
)

func tone(rate, hz, samples int) PCM {
	p := PCM{Rate: rate, Channels: 1, Samples: make([]float32, samples)}
	for i := range p.Samples {
		p.Samples[i] = 0.5 * float32(math.Sin(2*math.Pi*float64(hz)*float64(i)/float64(rate)))
	}
	return p
}

// level returns the amplitude of hz in p, by correlation with a sine and cosine.
func level(p PCM, hz int) float64 {
	var re, im float64
	for i, s := range p.Samples {
		a := 2 * math.Pi * float64(hz) * float64(i) / float64(p.Rate)
		re += float64(s) * math.Cos(a)
		im += float64(s) * math.Sin(a)
	}
	return 2 * math.Hypot(re, im) / float64(len(p.Samples))
}

func TestOpusKeepsTheTone(t *testing.T) {
	for _, channels := range []int{1, 2} {
		in := tone(16000, 440, 16000)
		if channels == 2 {
			in = PCM{Rate: 16000, Channels: 2, Samples: stereo(in.Samples)}
		}
		rec, err := NewRecording(in, 64000)
		if err != nil {
			t.Fatal(err)
		}
		dec, err := NewDecoder(1)
		if err != nil {
			t.Fatal(err)
		}
		out := PCM{Rate: Rate, Channels: 1}
		for n := 0; ; n++ {
			frame, err := rec.NextFrame()
			if errors.Is(err, io.EOF) {
				if n != 50 {
					t.Fatalf("%d frames of one second", n)
				}
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if n == 20 {
				frame = nil // lost
			}
			pcm, err := dec.Decode(frame)
			if err != nil {
				t.Fatal(err)
			}
			out.Samples = append(out.Samples, pcm...)
		}
		if len(out.Samples) != Rate {
			t.Fatalf("%d samples of one second", len(out.Samples))
		}
		if got := level(out, 440); math.Abs(got-0.5) > 0.05 {
			t.Errorf("%d channels: the tone came out at %.3f, went in at 0.5", channels, got)
		}
		rec.Rewind()
		if _, err := rec.NextFrame(); err != nil {
			t.Fatal(err)
		}
	}
}

func stereo(mono []float32) []float32 {
	out := make([]float32, 0, 2*len(mono))
	for _, s := range mono {
		out = append(out, s, s)
	}
	return out
}

func TestOpusRefusesNonsense(t *testing.T) {
	if _, err := NewEncoder(3, 64000); err == nil {
		t.Error("an encoder for three channels")
	}
	enc, err := NewEncoder(1, 64000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enc.Encode(make([]float32, 100)); err == nil {
		t.Error("a frame of 100 samples was encoded")
	}
	if _, err := NewDecoder(0); err == nil {
		t.Error("a decoder for no channels")
	}
	dec, err := NewDecoder(2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dec.Decode([]byte{0xFF, 0xFF, 0xFF}); err == nil {
		t.Error("nonsense was decoded")
	}
}

func TestResample(t *testing.T) {
	for _, c := range []struct{ from, to int }{{16000, 48000}, {22050, 48000}, {44100, 48000}, {48000, 16000}, {48000, 22050}} {
		out := tone(c.from, 1000, c.from).Resample(c.to)
		if len(out.Samples) != c.to || out.Rate != c.to {
			t.Fatalf("%d→%d: %d samples of one second", c.from, c.to, len(out.Samples))
		}
		if got := level(out, 1000); math.Abs(got-0.5) > 0.005 {
			t.Errorf("%d→%d: level %.4f, want 0.5", c.from, c.to, got)
		}
	}
	// What the lower rate cannot carry must not fold back.
	out := tone(48000, 11000, 48000).Resample(16000)
	if got := level(out, 5000); got > 0.0005 {
		t.Errorf("alias of 11 kHz at 5 kHz: %.5f", got)
	}
	same := tone(48000, 1, 10)
	if &same.Resample(48000).Samples[0] != &same.Samples[0] {
		t.Error("the same rate was copied")
	}
}

func TestWAV(t *testing.T) {
	in := PCM{Rate: 22050, Channels: 2, Samples: []float32{0, 0.5, -0.5, 1, -1, 2}}
	var file bytes.Buffer
	if err := WriteWAV(&file, in); err != nil {
		t.Fatal(err)
	}
	out, err := ReadWAV(bytes.NewReader(file.Bytes()))
	if err != nil || out.Rate != in.Rate || out.Channels != 2 || len(out.Samples) != 6 {
		t.Fatalf("%+v, %v", out, err)
	}
	for i, want := range []float32{0, 0.5, -0.5, 1, -1, 1} {
		if math.Abs(float64(out.Samples[i]-want)) > 1e-4 {
			t.Errorf("sample %d is %f, want %f", i, out.Samples[i], want)
		}
	}
	if mono := out.Mono(); mono.Channels != 1 || len(mono.Samples) != 3 || math.Abs(float64(mono.Samples[0]-0.25)) > 1e-4 {
		t.Errorf("mono %+v", mono)
	}
	for name, length := range map[string]int{"jfk": 176000, "ljspeech": 168861} {
		f, err := os.Open("../../test/testdata/" + name + ".wav")
		if err != nil {
			t.Fatal(err)
		}
		p, err := ReadWAV(f)
		_ = f.Close()
		if err != nil || p.Channels != 1 || len(p.Samples) != length {
			t.Errorf("%s: %d samples, %v", name, len(p.Samples), err)
		}
	}
}

func FuzzReadWAV(f *testing.F) {
	var file bytes.Buffer
	if err := WriteWAV(&file, tone(8000, 440, 16)); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add(file.Bytes()[:40])
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ReadWAV(bytes.NewReader(data))
		if err == nil && (p.Channels < 1 || len(p.Samples)%p.Channels != 0) {
			t.Fatalf("%d samples of %d channels", len(p.Samples), p.Channels)
		}
	})
}

func FuzzOgg(f *testing.F) {
	var file bytes.Buffer
	w, err := NewOggWriter(&file)
	if err != nil {
		f.Fatal(err)
	}
	if err := errors.Join(w.Write(Silence, FrameSamples), w.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := NewOggReader(bytes.NewReader(data))
		for frames := 0; err == nil; frames++ {
			if frames > len(data) {
				t.Fatal("more frames than bytes")
			}
			_, err = r.NextFrame()
		}
	})
}

func TestTrackFillsPausesAndOrders(t *testing.T) {
	var file bytes.Buffer
	track, err := NewTrack(&file)
	if err != nil {
		t.Fatal(err)
	}
	frame := func(i byte) []byte { return []byte{0xF8, i, 1, 2} }
	type packet struct {
		sequence  uint16
		timestamp uint32
	}
	// 65534 to 1, in disorder and with 0 twice; then half a second of nothing; 3 is lost.
	first := uint32(math.MaxUint32 - 2000)
	for _, p := range []packet{{65534, 0}, {0, 2 * 960}, {65535, 960}, {0, 2 * 960}, {1, 3 * 960}, {2, 28 * 960}, {4, 30 * 960}} {
		if err := track.Add(p.sequence, first+p.timestamp, frame(byte(p.sequence))); err != nil {
			t.Fatal(err)
		}
	}
	if err := track.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := NewOggReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for {
		f, err := r.NextFrame()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f[1])
	}
	want := append([]byte{254, 255, 0, 1}, bytes.Repeat([]byte{0xFF}, 24)...)
	want = append(want, 2, 0xFF, 4)
	if !bytes.Equal(got, want) {
		t.Fatalf("frames % d\nwant   % d", got, want)
	}
	bad, err := NewTrack(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := bad.Add(1, 1, nil); err == nil {
		t.Fatal("an empty packet was written")
	}
}

func TestJitterBuffer(t *testing.T) {
	b := NewJitterBuffer(3)
	if _, ok := b.Pop(); ok || b.Ready() {
		t.Fatal("an empty buffer has a frame")
	}
	push := func(sequences ...uint16) {
		for _, s := range sequences {
			b.Push(s, Frame{Timestamp: uint32(s)})
		}
	}
	push(10, 12)
	if f, ok := b.Pop(); !ok || f.Timestamp != 10 {
		t.Fatalf("popped %+v", f)
	}
	if b.Ready() {
		t.Fatal("11 may still come")
	}
	push(13, 14)
	if !b.Ready() {
		t.Fatal("11 is lost")
	}
	if _, ok := b.Pop(); ok {
		t.Fatal("11 is there")
	}
	push(11) // too late
	if f, ok := b.Pop(); !ok || f.Timestamp != 12 || b.Len() != 2 {
		t.Fatalf("popped %+v, %d wait", f, b.Len())
	}
	push(5000) // another stream
	if f, ok := b.Pop(); !ok || f.Timestamp != 5000 || b.Len() != 0 {
		t.Fatalf("popped %+v, %d wait", f, b.Len())
	}
}

func TestEncodeAllocatesNothing(t *testing.T) {
	enc, err := NewEncoder(1, 64000)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := NewDecoder(1)
	if err != nil {
		t.Fatal(err)
	}
	pcm := tone(Rate, 440, FrameSamples).Samples
	if n := testing.AllocsPerRun(50, func() {
		frame, err := enc.Encode(pcm)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dec.Decode(frame); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Fatalf("%v allocations for a frame", n)
	}
}

func BenchmarkEncode(b *testing.B) {
	enc, err := NewEncoder(1, 64000)
	if err != nil {
		b.Fatal(err)
	}
	pcm := tone(Rate, 440, FrameSamples).Samples
	b.ReportAllocs()
	for b.Loop() {
		if _, err := enc.Encode(pcm); err != nil {
			b.Fatal(err)
		}
	}
}

func TestWAVIsLittleEndianPCM(t *testing.T) {
	var file bytes.Buffer
	if err := WriteWAV(&file, PCM{Rate: 48000, Channels: 1, Samples: []float32{1}}); err != nil {
		t.Fatal(err)
	}
	data := file.Bytes()
	if binary.LittleEndian.Uint16(data[44:]) != 32767 || binary.LittleEndian.Uint32(data[40:]) != 2 || len(data) != 46 {
		t.Fatalf("% x", data)
	}
}
