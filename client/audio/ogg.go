package audio

import (
	"errors"
	"fmt"
	"io"

	"github.com/thesyncim/gopus/container/ogg"
)

// OggReader reads the packets of an Ogg Opus file, as a client.FrameSource.
type OggReader struct{ r *ogg.Reader }

// NewOggReader reads the headers of an Ogg Opus file with one or two channels.
func NewOggReader(r io.Reader) (*OggReader, error) {
	reader, err := ogg.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("audio: %w", err)
	}
	if reader.Header.MappingFamily != ogg.MappingFamilyRTP {
		return nil, errors.New("audio: Ogg Opus with more than two channels")
	}
	return &OggReader{reader}, nil
}

// NextFrame returns the next packet, or io.EOF.
func (o *OggReader) NextFrame() ([]byte, error) {
	packet, _, err := o.r.ReadPacket()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("audio: %w", err)
	}
	return packet, err
}

// OggWriter writes one speaker's packets to an Ogg Opus file.
type OggWriter struct{ w *ogg.Writer }

// NewOggWriter writes the headers of a file.
func NewOggWriter(w io.Writer) (*OggWriter, error) {
	writer, err := ogg.NewWriter(w, Rate, 2)
	if err != nil {
		return nil, fmt.Errorf("audio: %w", err)
	}
	return &OggWriter{writer}, nil
}

// Write appends a packet that lasts so many samples of 48 kHz.
func (o *OggWriter) Write(packet []byte, samples int) error { return o.w.WritePacket(packet, samples) }

// Close ends the file. It does not close the writer beneath.
func (o *OggWriter) Close() error { return o.w.Close() }
