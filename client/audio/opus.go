package audio

import (
	"fmt"
	"io"

	"github.com/thesyncim/gopus"
)

// maxPacket is above the largest Opus packet of 20 ms.
const maxPacket = 1500

// Encoder makes Opus frames of 20 ms. It is not safe for concurrent use.
type Encoder struct {
	enc      *gopus.Encoder
	channels int
	packet   [maxPacket]byte
}

// NewEncoder returns an encoder for one or two channels at a bit rate in bit/s.
func NewEncoder(channels, bitrate int) (*Encoder, error) {
	enc, err := gopus.NewEncoder(gopus.EncoderConfig{SampleRate: Rate, Channels: channels, Application: gopus.ApplicationAudio})
	if err != nil {
		return nil, fmt.Errorf("audio: %w", err)
	}
	if err := enc.SetBitrate(bitrate); err != nil {
		return nil, fmt.Errorf("audio: %w", err)
	}
	return &Encoder{enc: enc, channels: channels}, nil
}

// Encode encodes FrameSamples samples per channel, interleaved, of -1 to 1. The
// result is valid until the next call.
func (e *Encoder) Encode(pcm []float32) ([]byte, error) {
	if len(pcm) != FrameSamples*e.channels {
		return nil, fmt.Errorf("audio: frame of %d samples, want %d", len(pcm), FrameSamples*e.channels)
	}
	n, err := e.enc.Encode(pcm, e.packet[:])
	if err != nil {
		return nil, fmt.Errorf("audio: %w", err)
	}
	return e.packet[:n], nil
}

// Decoder decodes the packets of one speaker. It is not safe for concurrent use.
type Decoder struct {
	dec      *gopus.Decoder
	channels int
	pcm      []float32
	last     int // samples per channel of the last packet
}

// NewDecoder returns a decoder that yields one or two channels, whatever the
// packets have.
func NewDecoder(channels int) (*Decoder, error) {
	cfg := gopus.DefaultDecoderConfig(Rate, channels)
	dec, err := gopus.NewDecoder(cfg)
	if err != nil {
		return nil, fmt.Errorf("audio: %w", err)
	}
	return &Decoder{dec: dec, channels: channels, pcm: make([]float32, cfg.MaxPacketSamples*channels), last: FrameSamples}, nil
}

// Decode decodes a packet, or conceals a lost one as long as the last when packet
// is nil. The samples are interleaved and valid until the next call.
func (d *Decoder) Decode(packet []byte) ([]float32, error) {
	pcm := d.pcm
	if packet == nil {
		pcm = pcm[:d.last*d.channels]
	}
	n, err := d.dec.Decode(packet, pcm)
	if err != nil {
		return nil, fmt.Errorf("audio: %w", err)
	}
	d.last = n
	return d.pcm[:n*d.channels], nil
}

// Recording yields a recording as Opus frames, encoded when they are asked for,
// as a client.FrameSource.
type Recording struct {
	pcm   PCM
	enc   *Encoder
	at    int
	frame []float32
}

// NewRecording returns the frames of pcm, of any rate and of one or two channels,
// at a bit rate in bit/s.
func NewRecording(pcm PCM, bitrate int) (*Recording, error) {
	enc, err := NewEncoder(pcm.Channels, bitrate)
	if err != nil {
		return nil, err
	}
	return &Recording{pcm: pcm.Resample(Rate), enc: enc, frame: make([]float32, FrameSamples*pcm.Channels)}, nil
}

// NextFrame returns the next frame, valid until the next call, or io.EOF. The
// last frame is filled up with silence.
func (r *Recording) NextFrame() ([]byte, error) {
	if r.at >= len(r.pcm.Samples) {
		return nil, io.EOF
	}
	n := copy(r.frame, r.pcm.Samples[r.at:])
	clear(r.frame[n:])
	r.at += n
	return r.enc.Encode(r.frame)
}

// Rewind starts the recording over.
func (r *Recording) Rewind() { r.at = 0 }
