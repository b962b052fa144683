// Package client is the Go SDK of Hubbub: it speaks the REST API, keeps a
// gateway session alive across cuts, joins voice channels over the native
// transport, and sends and receives Opus frames.
//
// A program makes a Client, opens a Gateway with it, registers handlers with
// On, and joins channels with Gateway.JoinVoice:
//
//	c, err := client.New(client.Config{BaseURL: "https://localhost:8080", Token: "Bot …", CAFile: "ca.pem"})
//	gw := c.Gateway(client.GatewayOptions{Intents: proto.IntentGuilds | proto.IntentGuildVoice})
//	client.On(gw, client.MessageCreate, func(m proto.Message) { … })
//	err = gw.Connect(ctx)
//	voice, err := gw.JoinVoice(ctx, guild, channel, client.VoiceOptions{})
//	err = voice.Play(ctx, source)
//
// The package never encodes or decodes audio; package client/audio does.
package client
