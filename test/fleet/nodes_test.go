//go:build linux

package fleet

import (
	"context"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

// patience bounds every single step.
const patience = 30 * time.Second

// platform is a fleet with a guild in it and people.
type platform struct {
	*harness.Fleet
	t      testing.TB
	guild  proto.Snowflake
	lounge proto.Snowflake
	// Clients and calls of the admin API go to the entrance, clients by url.
	entrance *harness.FleetNode
	url      string
}

// start runs a gateway and REST node with the bus in it, two guild nodes, and two voice
// nodes: clients have one gateway, so that all lose it.
func start(t testing.TB) *platform {
	t.Helper()
	p := startWithoutVoice(t)
	p.run("voice-a", "voice")
	p.run("voice-b", "voice")
	return p
}

// startWithoutVoice is start without the voice nodes; the guild nodes get the flags.
func startWithoutVoice(t testing.TB, guildFlags ...string) *platform {
	t.Helper()
	p := &platform{t: t, Fleet: harness.StartFleet(t, harness.FleetConfig{
		Hub: "front",
		Nodes: []harness.NodeSpec{
			{Name: "front", Roles: "gateway,rest"},
			{Name: "guilds-a", Roles: "guilds", Flags: guildFlags}, {Name: "guilds-b", Roles: "guilds", Flags: guildFlags},
		},
	})}
	p.entrance, p.url = p.Node("front"), p.Node("front").URL()
	p.guild = p.entrance.Admin().Guild(t, "Test")
	p.lounge = p.channel("lounge", "")
	return p
}

// run has a node join, or come back where it was, and waits until it serves.
func (p *platform) run(name, roles string, flags ...string) *harness.FleetNode {
	p.t.Helper()
	if n := p.Node(name); n != nil {
		p.must(p.Start(n))
		return n
	}
	n, err := p.Add(harness.NodeSpec{Name: name, Roles: roles, Flags: flags})
	p.must(err)
	return n
}

// channel makes a voice channel, in a region unless that is "".
func (p *platform) channel(name, region string) proto.Snowflake {
	p.t.Helper()
	return p.entrance.Admin().Channel(p.t, p.guild, name, proto.ChannelVoice, region)
}

// drain asks a node to end by the command line, and names in which data directory the
// node that it asks has its own.
func (p *platform) drain(by string, names ...string) {
	p.t.Helper()
	args := append([]string{"ctl", "--data", p.Node(by).Data, "drain"}, names...)
	out, err := exec.Command(p.Binary, args...).CombinedOutput()
	p.t.Logf("ctl drain %v: %s", names, out)
	p.must(err)
}

// must fails the test on an error.
func (p *platform) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// call makes a call to the admin API, which must succeed.
func (p *platform) call(method, path string, body, answer any) {
	p.t.Helper()
	p.entrance.Admin().Call(p.t, method, path, body, answer)
}

// inVoice returns who is in voice, as the guilds' owners have it.
func (p *platform) inVoice() map[proto.Snowflake]guild.VoiceListEntry {
	p.t.Helper()
	var list []guild.VoiceListEntry
	p.call(http.MethodGet, "/voice", nil, &list)
	by := map[proto.Snowflake]guild.VoiceListEntry{}
	for _, e := range list {
		if _, twice := by[e.User]; twice {
			p.t.Errorf("user %d is in voice twice", e.User)
		}
		by[e.User] = e
	}
	return by
}

// member returns the admin API's path of a person in the guild.
func (p *platform) member(who *person) string {
	return "/guilds/" + p.guild.String() + "/members/" + who.id.String()
}

// person is a bot with a gateway session, and what it saw.
type person struct {
	*client.Gateway
	id     proto.Snowflake
	states chan proto.VoiceState
	guilds chan proto.GuildCreate
}

func (p *platform) person(name string) *person {
	p.t.Helper()
	made := p.entrance.Admin().Bot(p.t, p.guild, name)
	c, err := client.New(client.Config{BaseURL: p.url, Token: made.Token})
	p.must(err)
	p.t.Cleanup(c.Close)
	who := &person{
		Gateway: c.Gateway(client.GatewayOptions{Intents: proto.IntentGuilds | proto.IntentGuildVoice}),
		id:      made.ID, states: make(chan proto.VoiceState, 1000), guilds: make(chan proto.GuildCreate, 100),
	}
	client.On(who.Gateway, client.VoiceStateUpdate, func(s proto.VoiceState) {
		select {
		case who.states <- s:
		default: // nobody looks
		}
	})
	client.On(who.Gateway, client.GuildCreate, func(g proto.GuildCreate) { who.guilds <- g })
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	p.must(who.Connect(ctx))
	p.t.Cleanup(who.Close)
	return who
}

// join brings a person into the lounge.
func (p *platform) join(who *person) *client.Voice { return p.enter(who, p.lounge) }

// enter brings a person into a channel.
func (p *platform) enter(who *person, channel proto.Snowflake) *client.Voice {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	v, err := who.JoinVoice(ctx, p.guild, channel, client.VoiceOptions{})
	p.must(err)
	return v
}
