// Package audio turns recordings into Opus frames and back, for programs that
// talk through package client: an encoder and a decoder, Ogg Opus and WAV files,
// resampling to 48 kHz, and a buffer that puts received packets in order. It
// never touches the network or a sound device.
package audio

import "time"

const (
	// Rate is the rate of all audio between Opus and this package's users, in Hz.
	Rate = 48000
	// FrameDuration is the length of the frames that Encoder makes.
	FrameDuration = 20 * time.Millisecond
	// FrameSamples is the samples of one frame in each channel.
	FrameSamples = 960
)

// Silence is the Opus frame of 20 ms of silence.
var Silence = []byte{0xF8, 0xFF, 0xFE}
