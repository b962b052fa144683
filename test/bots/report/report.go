// Package report is what the bots of the end-to-end tests share: how they are
// told what to do, and the JSON lines in which they say what happens. A bot is a
// process of its own, since the libraries race with themselves and would fail
// the tests' race detector, and since two of them keep state in globals.
package report

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"

	"hubbub.dev/hubbub/client/audio"
)

// Task is what a bot is told in its environment.
type Task struct {
	API     string // "https://…/api"
	Token   string
	Guild   string
	Channel string
	Play    string // an Ogg Opus file
	Mode    string // an encryption mode to insist on, or empty
}

// Environment returns the task as the variables that bots read.
func (t Task) Environment() []string {
	return []string{"API=" + t.API, "TOKEN=" + t.Token, "GUILD=" + t.Guild, "CHANNEL=" + t.Channel, "PLAY=" + t.Play, "MODE=" + t.Mode}
}

// Read returns the task in this process's environment.
func Read() Task {
	return Task{os.Getenv("API"), os.Getenv("TOKEN"), os.Getenv("GUILD"), os.Getenv("CHANNEL"), os.Getenv("PLAY"), os.Getenv("MODE")}
}

// Line is one thing that a bot says.
type Line struct {
	Event   string `json:"event"`
	User    string `json:"user,omitempty"`
	Data    []byte `json:"data,omitempty"`    // of "opus"
	Message string `json:"message,omitempty"` // of "error"
	Content string `json:"content,omitempty"` // of "message"
}

var mu sync.Mutex

// Say writes a line to standard output.
func Say(l Line) {
	mu.Lock()
	defer mu.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(l)
}

// Fail says what went wrong and ends the process.
func Fail(err error) {
	Say(Line{Event: "error", Message: err.Error()})
	os.Exit(1)
}

// WaitForEnd returns when standard input is closed.
func WaitForEnd() { _, _ = io.Copy(io.Discard, os.Stdin) }

// Loop plays an Ogg Opus file over and over.
type Loop struct {
	name   string
	file   *os.File
	reader *audio.OggReader
}

// NewLoop opens a file.
func NewLoop(name string) *Loop { return &Loop{name: name} }

// Next returns the next frame.
func (l *Loop) Next() ([]byte, error) {
	for {
		if l.reader == nil {
			f, err := os.Open(l.name)
			if err != nil {
				return nil, err
			}
			if l.reader, err = audio.NewOggReader(f); err != nil {
				return nil, err
			}
			l.file = f
		}
		frame, err := l.reader.NextFrame()
		if !errors.Is(err, io.EOF) {
			return frame, err
		}
		_ = l.file.Close()
		l.reader = nil
	}
}
