// Command play is a bot that plays an Ogg Opus or WAV file into a voice channel.
//
//	go run ./examples/play --server https://localhost:8080 --ca ca.pem --token … --guild … --channel … music.ogg
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/client/audio"
	"hubbub.dev/hubbub/proto"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "play:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	server := flag.String("server", "http://localhost:8080", "where the server is")
	ca := flag.String("ca", "", "PEM file of a certificate authority to trust")
	token := flag.String("token", os.Getenv("HUBBUB_TOKEN"), "the bot's token")
	var guild, channel proto.Snowflake
	flag.TextVar(&guild, "guild", proto.Snowflake(0), "guild id")
	flag.TextVar(&channel, "channel", proto.Snowflake(0), "voice channel id")
	flag.Parse()
	if flag.NArg() != 1 {
		return errors.New("name one .ogg, .opus or .wav file")
	}
	source, closeFile, err := open(flag.Arg(0))
	if err != nil {
		return err
	}
	defer closeFile()

	c, err := client.New(client.Config{
		BaseURL: *server, CAFile: *ca, Token: "Bot " + strings.TrimPrefix(*token, "Bot "), Log: slog.Default(),
	})
	if err != nil {
		return err
	}
	defer c.Close()
	gateway := c.Gateway(client.GatewayOptions{Intents: proto.IntentGuilds | proto.IntentGuildVoice})
	if err := gateway.Connect(ctx); err != nil {
		return err
	}
	defer gateway.Close()
	voice, err := gateway.JoinVoice(ctx, guild, channel, client.VoiceOptions{SelfDeaf: true})
	if err != nil {
		return err
	}
	if err := voice.Play(ctx, source); err != nil {
		return err
	}
	return voice.Leave(ctx)
}

// open returns a file's frames.
func open(name string) (source client.FrameSource, closeFile func(), err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	closeFile = func() { _ = f.Close() }
	if strings.EqualFold(filepath.Ext(name), ".wav") {
		var pcm audio.PCM
		if pcm, err = audio.ReadWAV(f); err == nil {
			source, err = audio.NewRecording(pcm, 64000)
		}
	} else {
		source, err = audio.NewOggReader(f)
	}
	if err != nil {
		closeFile()
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return source, closeFile, nil
}
