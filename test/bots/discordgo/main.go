// Command discordgo is a bot with unmodified discordgo, for the end-to-end tests.
package main

import (
	"errors"
	"sync"
	"time"

	"github.com/bwmarrin/discordgo"

	"hubbub.dev/hubbub/test/bots/report"
)

func main() {
	if err := run(report.Read()); err != nil {
		report.Fail(err)
	}
}

// pointAt sets the variables that say where the API is.
func pointAt(api string) {
	base := api + "/v" + discordgo.APIVersion + "/"
	discordgo.EndpointAPI = base
	discordgo.EndpointGuilds = base + "guilds/"
	discordgo.EndpointChannels = base + "channels/"
	discordgo.EndpointUsers = base + "users/"
	discordgo.EndpointGateway = base + "gateway"
	discordgo.EndpointGatewayBot = base + "gateway/bot"
	discordgo.EndpointWebhooks = base + "webhooks/"
	discordgo.EndpointVoice = base + "voice/"
	discordgo.EndpointVoiceRegions = base + "voice/regions"
	discordgo.EndpointApplications = base + "applications"
}

// users knows whose SSRC is whose.
type users struct {
	mu     sync.Mutex
	bySSRC map[uint32]string
}

func (u *users) learn(_ *discordgo.VoiceConnection, s *discordgo.VoiceSpeakingUpdate) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bySSRC[uint32(s.SSRC)] = s.UserID
}

func (u *users) of(ssrc uint32) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.bySSRC[ssrc]
}

func run(task report.Task) error {
	pointAt(task.API)
	session, err := discordgo.New("Bot " + task.Token)
	if err != nil {
		return err
	}
	session.Identify.Intents = discordgo.IntentsGuilds | discordgo.IntentsGuildVoiceStates
	ready := make(chan struct{})
	session.AddHandlerOnce(func(*discordgo.Session, *discordgo.GuildCreate) { close(ready) })
	if err := session.Open(); err != nil {
		return err
	}
	<-ready
	report.Say(report.Line{Event: "ready"})
	conn, err := session.ChannelVoiceJoin(task.Guild, task.Channel, false, false)
	if err != nil {
		return err
	}
	who := &users{bySSRC: map[uint32]string{}}
	conn.AddHandler(who.learn)
	if err := conn.Speaking(true); err != nil {
		return err
	}
	report.Say(report.Line{Event: "playing"})
	go func() {
		for p := range conn.OpusRecv {
			report.Say(report.Line{Event: "opus", User: who.of(p.SSRC), Data: p.Opus})
		}
	}()
	stop := make(chan struct{})
	go func() {
		report.WaitForEnd()
		close(stop)
	}()
	loop := report.NewLoop(task.Play)
	for {
		frame, err := loop.Next()
		if err != nil {
			return err
		}
		select {
		case conn.OpusSend <- frame: // discordgo paces
		case <-stop:
			_ = conn.Disconnect()
			return session.Close()
		case <-time.After(10 * time.Second):
			return errors.New("discordgo takes no frames")
		}
	}
}
