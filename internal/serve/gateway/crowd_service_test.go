package gateway_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

// In a crowd everybody gets every event, in the guild's order, though most of them
// wait for others; and what is for one alone is in its place among them.
func TestCrowdGetsEveryEventInOrder(t *testing.T) {
	const clients, rounds = 120, 60
	cfg := defaults()
	cfg.Shards = 1
	w := newWorld(t, cfg)
	peers := make([]*peer, clients)
	sessions := make([]string, clients)
	for i := range peers {
		peers[i] = w.dial("")
		sessions[i] = peers[i].identify(aliceKey, "", 1).SessionID
	}
	for n := range rounds {
		for _, event := range []string{"ONE", "TWO"} {
			w.dispatch(guild.Dispatch{Guild: guildA, Event: event, Data: fmt.Append(nil, n), Except: sessions[1:2], Prompt: sessions[2]})
		}
		w.tell(guild.GatewayMessage{VoiceServer: &guild.VoiceServer{Guild: guildA, Session: sessions[n], Token: "t", Endpoint: "e:1"}})
	}
	for i, p := range peers {
		for n := range rounds {
			for _, event := range []string{"ONE", "TWO"} {
				var got int
				if i == 1 {
					continue
				}
				if f := p.want(event); json.Unmarshal(f.D, &got) != nil || got != n {
					t.Fatalf("client %d got %s %s, want %d", i, f.T, f.D, n)
				}
			}
			if i == n {
				p.want("VOICE_SERVER_UPDATE")
			}
		}
		p.send(`{"op":1,"d":null}`)
		p.want(proto.OpHeartbeatACK)
	}
}
