package proto

import (
	"fmt"
	"strconv"
	"time"
)

// Epoch is the first millisecond of 2015, from which snowflakes count
// (API reference, "Snowflakes").
const Epoch = 1420070400000

// Snowflake is a 64-bit id: 42 bits of milliseconds since Epoch, 10 bits of
// node, 12 bits of sequence. In JSON it is a decimal string; a bare number is
// accepted too, since some libraries send one. Zero means "none".
type Snowflake uint64

// String returns the id in decimal.
func (s Snowflake) String() string { return strconv.FormatUint(uint64(s), 10) }

// Time returns when the id was made.
func (s Snowflake) Time() time.Time { return time.UnixMilli(int64(s>>22) + Epoch) }

// MarshalText encodes the id in decimal, so that it can be a JSON map key.
func (s Snowflake) MarshalText() ([]byte, error) {
	return strconv.AppendUint(nil, uint64(s), 10), nil
}

// UnmarshalText decodes a decimal id.
func (s *Snowflake) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return fmt.Errorf("snowflake %q: not a 64-bit decimal", b)
	}
	*s = Snowflake(v)
	return nil
}

// MarshalJSON encodes the id as a decimal string.
func (s Snowflake) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 22)
	b = append(b, '"')
	b = strconv.AppendUint(b, uint64(s), 10)
	return append(b, '"'), nil
}

// UnmarshalJSON decodes a decimal string, a bare number, or null (leaves zero).
func (s *Snowflake) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*s = 0
		return nil
	}
	if len(b) >= 2 && b[0] == '"' {
		b = b[1 : len(b)-1]
	}
	if len(b) == 0 {
		*s = 0
		return nil
	}
	return s.UnmarshalText(b)
}

// ParseSnowflake decodes a decimal id, as in a URL path; zero is refused.
func ParseSnowflake(v string) (Snowflake, error) {
	var s Snowflake
	if err := s.UnmarshalText([]byte(v)); err != nil {
		return 0, err
	}
	if s == 0 {
		return 0, fmt.Errorf("snowflake %q: zero is no id", v)
	}
	return s, nil
}

// Generator makes snowflakes for one node. It is not safe for concurrent use:
// whoever owns it passes the wall clock in.
type Generator struct {
	node uint64
	last int64
	seq  uint64
}

// NewGenerator returns a generator for node (0 to 1023; higher bits are cut).
func NewGenerator(node uint16) *Generator { return &Generator{node: uint64(node) & 1023} }

// Next returns an id greater than every earlier one from g. When the clock
// stands still or steps back, it goes on counting from the last millisecond.
func (g *Generator) Next(now time.Time) Snowflake {
	ms := now.UnixMilli() - Epoch
	if ms <= g.last {
		ms = g.last
		g.seq++
		if g.seq > 4095 {
			ms++
			g.seq = 0
		}
	} else {
		g.seq = 0
	}
	g.last = ms
	return Snowflake(uint64(ms)<<22 | g.node<<12 | g.seq)
}
