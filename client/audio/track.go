package audio

import (
	"fmt"
	"io"

	"github.com/thesyncim/gopus"
)

// maxGap is the longest pause, in samples, that a Track writes as silence: an
// hour. A longer one is the clock of another stream.
const maxGap = 3600 * Rate

// Track writes what one speaker says to an Ogg Opus file: in order, with pauses
// and losses filled with silence, so that the file is as long as the speech was.
type Track struct {
	out     *OggWriter
	buffer  *JitterBuffer
	started bool
	next    uint32 // timestamp at which the file ends
}

// NewTrack starts a file on w.
func NewTrack(w io.Writer) (*Track, error) {
	out, err := NewOggWriter(w)
	if err != nil {
		return nil, err
	}
	return &Track{out: out, buffer: NewJitterBuffer(5)}, nil
}

// Add takes in a received packet.
func (t *Track) Add(sequence uint16, timestamp uint32, opus []byte) error {
	t.buffer.Push(sequence, Frame{Opus: opus, Timestamp: timestamp})
	for t.buffer.Ready() {
		if err := t.pop(); err != nil {
			return err
		}
	}
	return nil
}

// Close writes what is buffered and ends the file.
func (t *Track) Close() error {
	for t.buffer.Len() > 0 {
		if err := t.pop(); err != nil {
			return err
		}
	}
	return t.out.Close()
}

func (t *Track) pop() error {
	f, there := t.buffer.Pop()
	if !there {
		return nil // its time is filled when the next frame comes
	}
	info, err := gopus.ParsePacket(f.Opus)
	if err != nil {
		return fmt.Errorf("audio: %w", err)
	}
	if t.started && f.Timestamp-t.next <= maxGap {
		for ; f.Timestamp-t.next >= FrameSamples && f.Timestamp-t.next <= maxGap; t.next += FrameSamples {
			if err := t.out.Write(Silence, FrameSamples); err != nil {
				return err
			}
		}
	}
	samples := info.FrameCount * info.TOC.FrameSize
	t.started, t.next = true, f.Timestamp+uint32(samples)
	return t.out.Write(f.Opus, samples)
}
