//go:build linux

package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

// place is where somebody is in voice, as somebody was told.
type place struct {
	channel proto.Snowflake
	session string
}

// person is a native client: a gateway session, and what it was told of its guild; one
// that talks says a numbered packet every 20 ms and hears everybody else of its call.
type person struct {
	w     *world
	name  string
	id    proto.Snowflake
	guild *community
	gw    *client.Gateway
	lines *lines

	voice *client.Voice // nil for who is only there
	ears  *ears

	mu      sync.Mutex
	view    map[proto.Snowflake]place
	readies atomic.Int64 // how often the session was new
}

// person makes a bot in a guild with a session at one of the gateways.
func (w *world) person(name string, g *community, admin harness.Admin, gateway int) *person {
	w.t.Helper()
	made := admin.Bot(w.t, g.id, name)
	p := &person{w: w, name: name, id: made.ID, guild: g, ears: newEars(), view: map[proto.Snowflake]place{}}
	p.lines = w.lines(gateway)
	c := w.client(made.Token, p.lines, w.log.With("client", name))
	p.gw = c.Gateway(client.GatewayOptions{Intents: proto.IntentGuilds | proto.IntentGuildVoice})
	client.On(p.gw, client.Ready, func(r proto.ReadyData) {
		p.readies.Add(1)
		w.log.Info("gateway ready", "client", name, "session", r.SessionID, "by", r.Trace)
	})
	client.On(p.gw, client.GuildCreate, p.guildCreated)
	client.On(p.gw, client.VoiceStateUpdate, p.told)
	ctx, cancel := w.step()
	defer cancel()
	if err := p.gw.Connect(ctx); err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	w.t.Cleanup(p.gw.Close)
	w.people = append(w.people, p)
	return p
}

// client is an SDK client over lines.
func (w *world) client(token string, over *lines, log *slog.Logger) *client.Client {
	w.t.Helper()
	c, err := client.New(client.Config{BaseURL: "http://" + platformName, Token: token, Dial: over.dial, Log: log})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// lines come to one of the gateways first.
func (w *world) lines(gateway int) *lines {
	return &lines{from: net.ParseIP(w.net.person(len(w.people))), gateways: w.gateways(), at: gateway, nonces: &w.nonces, open: map[net.Conn]struct{}{}}
}

func (p *person) guildCreated(g proto.GuildCreate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.w.log.Info("guild came", "client", p.name, "guild", g.ID)
	clear(p.view)
	for _, s := range g.VoiceStates {
		p.note(s)
	}
}

func (p *person) told(s proto.VoiceState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(s)
}

func (p *person) note(s proto.VoiceState) {
	if s.ChannelID == nil {
		delete(p.view, s.UserID)
	} else {
		p.view[s.UserID] = place{*s.ChannelID, s.SessionID}
	}
}

// places is what the client was told.
func (p *person) places() map[proto.Snowflake]place {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[proto.Snowflake]place, len(p.view))
	for user, at := range p.view {
		out[user] = at
	}
	return out
}

// join brings a person into the call of its guild, where it talks until the test ends.
func (p *person) join() {
	p.w.t.Helper()
	ctx, cancel := p.w.step()
	defer cancel()
	v, err := p.gw.JoinVoice(ctx, p.guild.id, p.guild.lounge, client.VoiceOptions{})
	if err != nil {
		p.w.t.Fatalf("%s: %v", p.name, err)
	}
	p.voice = v
	var tasks sync.WaitGroup
	speaking, stop := context.WithCancel(p.w.t.Context())
	tasks.Go(func() { _ = v.Play(speaking, &mouth{began: p.w.began}) }) // its end is the voice's, which settle sees
	tasks.Go(func() {
		for packet := range v.Packets() {
			p.ears.hear(&packet, p.w.now())
		}
	})
	p.w.t.Cleanup(func() {
		stop()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = v.Leave(ctx)
		tasks.Wait()
	})
}

// wrong says what is not right with a person, "" for nothing.
func (p *person) wrong(truth map[proto.Snowflake]place) string {
	if err := p.gw.Err(); err != nil {
		return fmt.Sprintf("%s has lost its session: %v", p.name, err)
	}
	if !p.gw.Connected() {
		return p.name + " has no gateway"
	}
	if diff := differ(p.places(), truth); diff != "" {
		return fmt.Sprintf("%s was told otherwise: %s", p.name, diff)
	}
	if p.voice == nil {
		return ""
	}
	if err := p.voice.Err(); err != nil {
		return fmt.Sprintf("%s is no longer in its call: %v", p.name, err)
	}
	now := p.w.now()
	for _, other := range p.guild.people {
		if other == p {
			continue
		}
		if span := p.ears.silent(other.id, now); span > audible {
			return fmt.Sprintf("%s has not heard %s for %v", p.name, other.name, span.Round(frameTime))
		}
	}
	return ""
}
