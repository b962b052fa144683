package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// PCM is uncompressed audio: interleaved samples of -1 to 1.
type PCM struct {
	Rate     int // Hz
	Channels int
	Samples  []float32
}

// maxWAV bounds what ReadWAV takes into memory: three hours of 48 kHz mono.
const maxWAV = 1 << 30

var errWAV = errors.New("audio: not a WAV file of 16-bit or float samples")

// ReadWAV reads a RIFF WAVE file with 16-bit integer or 32-bit float samples.
func ReadWAV(r io.Reader) (PCM, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxWAV))
	if err != nil {
		return PCM{}, fmt.Errorf("audio: %w", err)
	}
	if len(data) < 12 || string(data[:4]) != "RIFF" || string(data[8:12]) != "WAVE" {
		return PCM{}, errWAV
	}
	var pcm PCM
	var format, bits uint16
	for rest := data[12:]; len(rest) >= 8; {
		name, size := string(rest[:4]), binary.LittleEndian.Uint32(rest[4:])
		body := rest[8:]
		// A recorder that could not seek back leaves the size of the last chunk
		// at a huge value: it is what there is.
		if uint64(size) < uint64(len(body)) {
			body = body[:size]
		}
		switch name {
		case "fmt ":
			if len(body) < 16 {
				return PCM{}, errWAV
			}
			format = binary.LittleEndian.Uint16(body)
			pcm.Channels = int(binary.LittleEndian.Uint16(body[2:]))
			pcm.Rate = int(binary.LittleEndian.Uint32(body[4:]))
			bits = binary.LittleEndian.Uint16(body[14:])
			if format == 0xFFFE && len(body) >= 26 { // extensible: the format is in the GUID
				format = binary.LittleEndian.Uint16(body[24:])
			}
		case "data":
			if pcm.Channels < 1 || pcm.Channels > 8 || pcm.Rate < 1000 || pcm.Rate > 768000 {
				return PCM{}, errWAV
			}
			pcm.Samples, err = samples(body, format, bits)
			pcm.Samples = pcm.Samples[:len(pcm.Samples)/pcm.Channels*pcm.Channels]
			return pcm, err
		}
		rest = rest[8:]
		rest = rest[min(len(rest), len(body)+len(body)%2):]
	}
	return PCM{}, errWAV
}

func samples(body []byte, format, bits uint16) ([]float32, error) {
	switch {
	case format == 1 && bits == 16:
		out := make([]float32, len(body)/2)
		for i := range out {
			out[i] = float32(int16(binary.LittleEndian.Uint16(body[2*i:]))) / 32768
		}
		return out, nil
	case format == 3 && bits == 32:
		out := make([]float32, len(body)/4)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(body[4*i:]))
		}
		return out, nil
	}
	return nil, errWAV
}

// WriteWAV writes p as a RIFF WAVE file with 16-bit samples.
func WriteWAV(w io.Writer, p PCM) error {
	const header = 44
	out := make([]byte, header+2*len(p.Samples))
	le := binary.LittleEndian
	copy(out, "RIFF")
	le.PutUint32(out[4:], uint32(len(out)-8))
	copy(out[8:], "WAVEfmt ")
	le.PutUint32(out[16:], 16)
	le.PutUint16(out[20:], 1)
	le.PutUint16(out[22:], uint16(p.Channels))
	le.PutUint32(out[24:], uint32(p.Rate))
	le.PutUint32(out[28:], uint32(p.Rate*p.Channels*2))
	le.PutUint16(out[32:], uint16(p.Channels*2))
	le.PutUint16(out[34:], 16)
	copy(out[36:], "data")
	le.PutUint32(out[40:], uint32(2*len(p.Samples)))
	for i, s := range p.Samples {
		v := math.Round(float64(max(-1, min(1, s))) * 32767)
		le.PutUint16(out[header+2*i:], uint16(int16(v)))
	}
	_, err := w.Write(out)
	return err
}

// Mono returns p with its channels averaged into one.
func (p PCM) Mono() PCM {
	if p.Channels == 1 {
		return p
	}
	out := make([]float32, len(p.Samples)/p.Channels)
	for i := range out {
		var sum float32
		for _, s := range p.Samples[i*p.Channels : (i+1)*p.Channels] {
			sum += s
		}
		out[i] = sum / float32(p.Channels)
	}
	return PCM{Rate: p.Rate, Channels: 1, Samples: out}
}
