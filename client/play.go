package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// silenceFrames end every Play, so that decoders do not fill the gap after the
// last frame with a guess (Voice Connections, "Voice Data Interpolation").
const silenceFrames = 5

// maxLag is how late a Play may run before it gives up catching up.
const maxLag = 200 * time.Millisecond

// FrameSource yields Opus packets of 2.5 to 120 ms one after another, and io.EOF
// after the last. A packet need stay valid only until the next call.
type FrameSource interface {
	NextFrame() ([]byte, error)
}

// Play sends everything that source yields, each frame at its time, then five
// frames of silence, and stops speaking. It returns nil at the end of the source,
// and otherwise the error of the source, of ctx or of the Voice.
func (v *Voice) Play(ctx context.Context, source FrameSource) error {
	defer v.Speaking(0)
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	rest := 0 // frames of silence still to send
	var failure error
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-v.ctx.Done():
			return v.endError()
		}
		frame := silence
		if rest == 0 {
			next, err := source.NextFrame()
			switch {
			case err == nil:
				frame = next
			case errors.Is(err, io.EOF):
				rest = silenceFrames
			default:
				rest, failure = silenceFrames, fmt.Errorf("client: play: %w", err)
			}
		}
		if err := v.Send(frame); err != nil {
			return err
		}
		if rest > 0 {
			if rest--; rest == 0 {
				return failure
			}
		}
		samples, _ := opusSamples(frame)
		due = due.Add(time.Duration(samples) * time.Second / 48000)
		if now := time.Now(); now.Sub(due) > maxLag {
			due = now
		}
		timer.Reset(time.Until(due))
	}
}
