package ws

import (
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// zlibHistory is how much of the stream a message is compressed against. The
// compressor could use 8 KiB, at twice the cost for a message of 100 bytes.
const zlibHistory = 4 << 10

// ZlibStream is Discord's "zlib-stream": every message is a part of one zlib
// stream and ends with a sync flush (00 00 FF FF). It keeps the last 4 KiB of the
// stream and no compressor, which would be 1 MiB for each connection.
type ZlibStream struct {
	begun   bool
	history []byte
}

// Encode appends the next part of the stream; it is always binary.
func (z *ZlibStream) Encode(dst, message []byte) ([]byte, bool, error) {
	if !z.begun {
		dst = append(dst, 0x78, 0x01) // RFC 1950: deflate, 32 KiB window, fastest
		z.begun = true
	}
	out := appender(dst)
	err := flate.StatelessDeflate(&out, message, false, z.history)
	z.remember(message)
	return out, true, err
}

func (z *ZlibStream) remember(message []byte) {
	if len(message) >= zlibHistory {
		z.history = append(z.history[:0], message[len(message)-zlibHistory:]...)
		return
	}
	if over := len(z.history) + len(message) - zlibHistory; over > 0 {
		z.history = z.history[:copy(z.history, z.history[over:])]
	}
	z.history = append(z.history, message...)
}

// ZstdStream is Discord's "zstd-stream": every message is a part of one Zstandard
// frame and ends with a flushed block. Its compressor takes about 450 KiB from the
// first message on (the fastest level with a 16 KiB window, measured 2026-11-22).
type ZstdStream struct {
	encoder *zstd.Encoder
	out     appender
}

// Encode appends the next part of the stream; it is always binary.
func (z *ZstdStream) Encode(dst, message []byte) ([]byte, bool, error) {
	z.out = dst
	defer func() { z.out = nil }()
	if z.encoder == nil {
		e, err := zstd.NewWriter(&z.out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(16<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
		if err != nil {
			return nil, true, err
		}
		z.encoder = e
	}
	if _, err := z.encoder.Write(message); err != nil {
		return nil, true, err
	}
	err := z.encoder.Flush()
	return z.out, true, err
}

// zlibPayloadMin is the size from which a compressed message saves anything that
// matters; a shorter one goes as text, which clients tell by the message's type.
const zlibPayloadMin = 512

// ZlibPayload is Discord's payload compression: a long message is one whole zlib
// stream, a short one plain text. It keeps nothing between messages.
type ZlibPayload struct{}

var zlibWriters = sync.Pool{New: func() any {
	w, _ := zlib.NewWriterLevel(nil, zlib.BestSpeed) // errs on an unknown level only
	return w
}}

// Encode appends the message, compressed and binary when it is long.
func (ZlibPayload) Encode(dst, message []byte) ([]byte, bool, error) {
	if len(message) < zlibPayloadMin {
		return append(dst, message...), false, nil
	}
	out := appender(dst)
	w := zlibWriters.Get().(*zlib.Writer)
	defer zlibWriters.Put(w)
	w.Reset(&out)
	if _, err := w.Write(message); err != nil {
		return nil, true, err
	}
	err := w.Close()
	return out, true, err
}

type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}
