// Command record is a bot that records each speaker of a voice channel to an Ogg
// Opus file of their own, named after their user id, until it is interrupted.
//
//	go run ./examples/record --server https://localhost:8080 --ca ca.pem --token … --guild … --channel … directory
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
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
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
		return errors.New("name one directory to record to")
	}
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
	voice, err := gateway.JoinVoice(ctx, guild, channel, client.VoiceOptions{SelfMute: true})
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "recording; interrupt to end")
	return record(ctx, voice, flag.Arg(0))
}

// tape is one speaker's file.
type tape struct {
	file  *os.File
	track *audio.Track
}

// record writes everybody's packets to their files until ctx ends.
func record(ctx context.Context, voice *client.Voice, directory string) (err error) {
	tapes := map[proto.Snowflake]tape{}
	defer func() {
		for _, t := range tapes {
			err = errors.Join(err, t.track.Close(), t.file.Close())
		}
	}()
	for {
		select {
		case p, ok := <-voice.Packets():
			if !ok {
				return voice.Err()
			}
			t, ok := tapes[p.UserID]
			if !ok {
				if t, err = newTape(directory, p.UserID); err != nil {
					return err
				}
				tapes[p.UserID] = t
			}
			if err := t.track.Add(p.Sequence, p.Timestamp, p.Opus); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func newTape(directory string, user proto.Snowflake) (tape, error) {
	f, err := os.Create(filepath.Join(directory, user.String()+".ogg"))
	if err != nil {
		return tape{}, err
	}
	track, err := audio.NewTrack(f)
	if err != nil {
		_ = f.Close()
		return tape{}, err
	}
	return tape{f, track}, nil
}
