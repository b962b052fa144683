package ops

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
)

// toc begins an Opus packet of one 20 ms frame; the server forwards what follows
// as it is.
const toc = 0xF8

// counter yields frames that carry their own number, from 1 on.
type counter struct {
	last  atomic.Uint64
	frame [9]byte
}

func (c *counter) NextFrame() ([]byte, error) {
	c.frame[0] = toc
	binary.BigEndian.PutUint64(c.frame[1:], c.last.Add(1))
	return c.frame[:], nil
}

// number reads a frame's number; zero for a frame of silence.
func number(opus []byte) uint64 {
	if len(opus) != 9 || opus[0] != toc {
		return 0
	}
	return binary.BigEndian.Uint64(opus[1:])
}

// caller is a bot in a voice channel that speaks all the time.
type caller struct {
	name  string
	id    proto.Snowflake
	gw    *client.Gateway
	voice *client.Voice
	said  counter
}

// join makes a bot that joins a channel and speaks until the test ends.
func join(t *testing.T, s *server, name string, channel proto.Snowflake) *caller {
	t.Helper()
	id, token := s.bot(name)
	c := &caller{name: name, id: id}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c.gw = s.client("Bot " + token).Gateway(client.GatewayOptions{Intents: proto.IntentGuilds | proto.IntentGuildVoice})
	t.Cleanup(c.gw.Close)
	if err := c.gw.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.voice, err = c.gw.JoinVoice(ctx, s.guild, channel, client.VoiceOptions{}); err != nil {
		t.Fatal(err)
	}
	speak, stop := context.WithCancel(t.Context())
	var task sync.WaitGroup
	task.Go(func() { _ = c.voice.Play(speak, &c.said) })
	t.Cleanup(func() { stop(); task.Wait() })
	return c
}

// next returns the next packet that c hears.
func (c *caller) next(t *testing.T, limit <-chan time.Time) client.Packet {
	t.Helper()
	select {
	case p, ok := <-c.voice.Packets():
		if !ok {
			t.Fatalf("the voice of %s ended: %v", c.name, c.voice.Err())
		}
		return p
	case <-limit:
		t.Fatalf("%s hears nothing that was waited for", c.name)
	}
	return client.Packet{}
}

// hears waits until c hears n frames of other that are yet to be said.
func (c *caller) hears(t *testing.T, other *caller, n int) {
	t.Helper()
	mark, limit := other.said.last.Load(), time.After(patience)
	for n > 0 {
		if p := c.next(t, limit); p.UserID == other.id && number(p.Opus) > mark {
			n--
		}
	}
}

// hearsOnly waits until c hears 50 frames of other, a second of it, none of them
// of mute. What of mute's is under way when it is called is let through.
func (c *caller) hearsOnly(t *testing.T, other, mute *caller) {
	t.Helper()
	c.hears(t, other, 10)
	mark, limit := mute.said.last.Load(), time.After(patience)
	for n := 0; n < 50; {
		p := c.next(t, limit)
		switch {
		case p.UserID == other.id:
			n++
		case p.UserID == mute.id && number(p.Opus) > mark:
			t.Fatalf("%s hears %s", c.name, mute.name)
		}
	}
}

// ended waits until the server has disconnected c.
func (c *caller) ended(t *testing.T) {
	t.Helper()
	select {
	case <-c.voice.Done():
	case <-time.After(patience):
		t.Fatalf("%s is still in voice", c.name)
	}
	if err := c.voice.Err(); !errors.Is(err, client.ErrDisconnected) {
		t.Errorf("the voice of %s ended with %v", c.name, err)
	}
}
