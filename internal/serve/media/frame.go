package media

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"

	"hubbub.dev/hubbub/internal/core/sfu"
)

const (
	// maxFrame bounds what is read of the other process, in bytes.
	maxFrame = 1 << 20
	// directiveBatch is how many commands one frame has at most.
	directiveBatch = 256
	// formVersion is to be raised with each change of frames or of what records mean.
	formVersion = 2
)

// layout names the form of frames and of the shared memory. Binaries that differ in it
// can not follow one another.
var layout = formVersion<<48 | uint64(memorySize)

var errFrame = errors.New("media: unreadable control frame")

// frame is what passes between a supervisor and its child; exactly one field is set.
// On the wire it is 4 bytes of length, big endian, and CBOR.
type frame struct {
	// From the child: it runs; it serves.
	Hello *hello `cbor:"1,keyasint,omitempty"`
	Ready bool   `cbor:"2,keyasint,omitempty"`
	// From the child, while it serves.
	Event *workerEvent  `cbor:"3,keyasint,omitempty"`
	Stats []WorkerStats `cbor:"4,keyasint,omitempty"`
	// From the child, the last until Speak.
	Resting bool `cbor:"6,keyasint,omitempty"`
	// From the child, at any time.
	Log *logLine `cbor:"5,keyasint,omitempty"`

	// From the supervisor, in this order: how to be; what an earlier child knew; the
	// end of that; more commands; the end.
	Begin  *beginning  `cbor:"10,keyasint,omitempty"`
	Orders []directive `cbor:"11,keyasint,omitempty"`
	Serve  *serving    `cbor:"12,keyasint,omitempty"`
	Stop   bool        `cbor:"13,keyasint,omitempty"`
	// From the supervisor, while the child serves: to say nothing more, which the child
	// ends with Resting, until it is to speak again.
	Rest  bool `cbor:"14,keyasint,omitempty"`
	Speak bool `cbor:"15,keyasint,omitempty"`
}

type hello struct {
	Layout  uint64 `cbor:"1,keyasint"`
	Version string `cbor:"2,keyasint"`
}

// beginning is what a child's workers are told once.
type beginning struct {
	Sockets     int    `cbor:"1,keyasint"`
	Legacy      bool   `cbor:"2,keyasint"`
	MaxSpeakers int    `cbor:"3,keyasint"`
	Wait        int64  `cbor:"4,keyasint"` // nanoseconds
	AttackRate  int    `cbor:"8,keyasint"`
	Certificate []byte `cbor:"5,keyasint"` // of the DTLS servers, in DER
	Key         []byte `cbor:"6,keyasint"` // its private key, in PKCS #8
	LogLevel    int    `cbor:"7,keyasint"`
}

// serving ends the replay, in which Number was the last command's.
type serving struct {
	Number uint64 `cbor:"1,keyasint"`
}

// directive is a command to one worker. Numbers rise.
type directive struct {
	Worker  int         `cbor:"1,keyasint"`
	Number  uint64      `cbor:"2,keyasint"`
	Command sfu.Command `cbor:"3,keyasint"`
}

type workerEvent struct {
	Worker int       `cbor:"1,keyasint"`
	Event  sfu.Event `cbor:"2,keyasint"`
}

// logLine is a line for the supervisor's log: names and values alternate in Attrs.
type logLine struct {
	Level   int      `cbor:"1,keyasint"`
	Message string   `cbor:"2,keyasint"`
	Attrs   []string `cbor:"3,keyasint"`
}

var frameDecoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{MaxArrayElements: 1 << 12, MaxMapPairs: 1 << 10, MaxNestedLevels: 16}.DecMode()
	if err != nil {
		panic(err) // a mistake in the options above
	}
	return mode
}()

// decodeFrame reads one frame without its length. It checks the form, not whether the
// workers that it names exist.
func decodeFrame(b []byte) (f frame, err error) {
	if err := frameDecoding.Unmarshal(b, &f); err != nil {
		return frame{}, fmt.Errorf("%w: %w", errFrame, err)
	}
	return f, nil
}

func readFrame(r *bufio.Reader) (frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return frame{}, fmt.Errorf("%w: %d bytes", errFrame, size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return frame{}, err
	}
	return decodeFrame(body)
}

// writeFrame leaves the frame in the writer's buffer as far as it fits.
func writeFrame(w *bufio.Writer, f frame) error {
	body, err := cbor.Marshal(f)
	if err != nil {
		return fmt.Errorf("media: control frame: %w", err)
	}
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(body)))
	if _, err = w.Write(head[:]); err == nil {
		_, err = w.Write(body)
	}
	return err
}
