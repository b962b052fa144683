package ops

import (
	"encoding/json"
	"testing"
)

// voiceEntry is a line of ctl voice list.
type voiceEntry struct {
	Guild     string `json:"guild_id"`
	Channel   string `json:"channel_id"`
	Name      string `json:"channel_name"`
	User      string `json:"user_id"`
	Username  string `json:"username"`
	Node      string `json:"node"`
	Worker    int    `json:"worker"`
	Transport string `json:"transport"`
	Mute      bool   `json:"mute"`
}

func voiceList(t *testing.T, s *server) []voiceEntry {
	t.Helper()
	out, complaint, code := run(t, s.bin, nil, "ctl", "--data", s.dir, "--json", "voice", "list")
	if code != 0 {
		t.Fatalf("voice list: %d %s", code, complaint)
	}
	var entries []voiceEntry
	if err := json.Unmarshal([]byte(out), &entries); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return entries
}
