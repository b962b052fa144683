package proto

import (
	"encoding/json"
	"testing"
	"time"
)

func TestSnowflakeJSON(t *testing.T) {
	for in, want := range map[string]Snowflake{
		`"41771983423143937"`:    41771983423143937,
		`41771983423143937`:      41771983423143937,
		`null`:                   0,
		`""`:                     0,
		`"18446744073709551615"`: 1<<64 - 1,
	} {
		var s Snowflake
		if err := json.Unmarshal([]byte(in), &s); err != nil || s != want {
			t.Errorf("%s decoded to %d, %v; want %d", in, s, err, want)
		}
	}
	for _, in := range []string{`"x"`, `-1`, `1.5`, `"18446744073709551616"`, `{}`, `"`} {
		var s Snowflake
		if err := json.Unmarshal([]byte(in), &s); err == nil {
			t.Errorf("%s was taken as %d", in, s)
		}
	}
	b, err := json.Marshal(map[Snowflake]Snowflake{7: 8})
	if err != nil || string(b) != `{"7":"8"}` {
		t.Errorf("a map came out as %s, %v", b, err)
	}
}

func TestGeneratorNeverRepeats(t *testing.T) {
	g := NewGenerator(3)
	now := time.UnixMilli(Epoch + 1000)
	last := Snowflake(0)
	for i := range 10000 {
		// The clock stands still, then steps back.
		if i == 5000 {
			now = now.Add(-time.Second)
		}
		id := g.Next(now)
		if id <= last {
			t.Fatalf("id %d is %d, after %d", i, id, last)
		}
		last = id
	}
	if got := last >> 12 & 1023; got != 3 {
		t.Errorf("node in the id is %d", got)
	}
	if d := g.Next(time.UnixMilli(Epoch + 9000)).Time().Sub(time.UnixMilli(Epoch + 9000)); d != 0 {
		t.Errorf("the id's time is off by %v", d)
	}
}

func TestPermissionsJSON(t *testing.T) {
	var p Permissions
	for _, in := range []string{`"3145728"`, `3145728`} {
		if err := json.Unmarshal([]byte(in), &p); err != nil || p != PermConnect|PermSpeak {
			t.Errorf("%s decoded to %d, %v", in, p, err)
		}
	}
	if b, _ := json.Marshal(PermAdministrator); string(b) != `"8"` {
		t.Errorf("encoded as %s", b)
	}
	if err := json.Unmarshal([]byte(`"-1"`), &p); err == nil {
		t.Error("a negative set was taken")
	}
}

func TestSpeakingTakesBooleans(t *testing.T) {
	for in, want := range map[string]SpeakingFlags{`true`: SpeakingVoice, `false`: 0, `5`: SpeakingVoice | SpeakingPriority, `null`: 0} {
		var f SpeakingFlags
		if err := json.Unmarshal([]byte(in), &f); err != nil || f != want {
			t.Errorf("%s decoded to %d, %v; want %d", in, f, err, want)
		}
	}
}

func TestSnowflakeSetTakesOneOrMany(t *testing.T) {
	for in, want := range map[string]int{`"5"`: 1, `["5","6"]`: 2, `null`: 0, `[]`: 0} {
		var s SnowflakeSet
		if err := json.Unmarshal([]byte(in), &s); err != nil || len(s) != want {
			t.Errorf("%s decoded to %v, %v; want %d ids", in, s, err, want)
		}
	}
}

func TestShardOf(t *testing.T) {
	// The docs' formula: (guild_id >> 22) % num_shards.
	if got := ShardOf(197038439483310086, 16); got != int((197038439483310086>>22)%16) {
		t.Errorf("shard %d", got)
	}
	if got := ShardOf(197038439483310086, 1); got != 0 {
		t.Errorf("the only shard is %d", got)
	}
}

func FuzzSnowflake(f *testing.F) {
	f.Add([]byte(`"41771983423143937"`))
	f.Add([]byte(`12`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var s Snowflake
		if json.Unmarshal(in, &s) != nil {
			return
		}
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again Snowflake
		if err := json.Unmarshal(out, &again); err != nil || again != s {
			t.Fatalf("%s became %s became %d, %v", in, out, again, err)
		}
	})
}
