// Command disgo is a bot with unmodified disgo, for the end-to-end tests.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/disgoorg/disgo"
	"github.com/disgoorg/disgo/bot"
	"github.com/disgoorg/disgo/events"
	"github.com/disgoorg/disgo/gateway"
	"github.com/disgoorg/disgo/rest"
	"github.com/disgoorg/disgo/voice"
	"github.com/disgoorg/snowflake/v2"

	"hubbub.dev/hubbub/test/bots/report"
)

func main() {
	if err := run(report.Read()); err != nil {
		report.Fail(err)
	}
}

func run(task report.Task) error {
	if task.Mode != "" {
		voice.AllEncryptionModes = []voice.EncryptionMode{voice.EncryptionMode(task.Mode)}
	}
	guild, err1 := snowflake.Parse(task.Guild)
	channel, err2 := snowflake.Parse(task.Channel)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	ready := make(chan struct{})
	client, err := disgo.New(task.Token,
		bot.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))),
		bot.WithRestClientConfigOpts(rest.WithURL(task.API+"/v10")),
		bot.WithGatewayConfigOpts(gateway.WithIntents(gateway.IntentGuilds|gateway.IntentGuildVoiceStates)),
		bot.WithEventListenerFunc(func(*events.GuildReady) { close(ready) }),
	)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := client.OpenGateway(ctx); err != nil {
		return err
	}
	select {
	case <-ready:
		report.Say(report.Line{Event: "ready"})
	case <-ctx.Done():
		return ctx.Err()
	}
	conn := client.VoiceManager.CreateConn(guild)
	if err := conn.Open(ctx, channel, false, false); err != nil {
		return err
	}
	if err := conn.SetSpeaking(ctx, voice.SpeakingFlagMicrophone); err != nil {
		return err
	}
	conn.SetOpusFrameProvider(provider{report.NewLoop(task.Play)})
	conn.SetOpusFrameReceiver(receiver{})
	report.Say(report.Line{Event: "playing"})
	report.WaitForEnd()
	end, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	// When the server's close of the voice gateway comes meanwhile, the library may wait for
	// itself. All that there is to see has been seen.
	left := make(chan struct{})
	go func() {
		defer close(left)
		conn.Close(end)
		client.Close(end)
	}()
	select {
	case <-left:
	case <-end.Done():
	}
	return nil
}

type provider struct{ loop *report.Loop }

func (p provider) ProvideOpusFrame() ([]byte, error) { return p.loop.Next() }
func (provider) Close()                              {}

type receiver struct{}

func (receiver) ReceiveOpusFrame(user snowflake.ID, p *voice.Packet) error {
	report.Say(report.Line{Event: "opus", User: user.String(), Data: p.Opus})
	return nil
}
func (receiver) CleanupUser(snowflake.ID) {}
func (receiver) Close()                   {}
