package sfu

import (
	"slices"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/rtp"
)

// reports runs the router until its first reports are due and returns them.
func (r *room) reports(d time.Duration) (all []Report) {
	for end := r.now.Add(d); r.now.Before(end); {
		r.now = r.now.Add(tick)
		r.Tick(r.now)
		for rep := (Report{}); r.NextReport(r.now, r.wall(), &rep); {
			all = append(all, Report{Packet: slices.Clone(rep.Packet), To: slices.Clone(rep.To)})
		}
	}
	return all
}

func (r *room) wall() time.Time { return time.Unix(1_700_000_000, int64(r.now)) }

func (r *room) browser(ids ...PeerID) {
	for _, id := range ids {
		slot, _ := r.Apply(Command{Browser: &SetBrowser{Peer: id}})
		r.Connect(slot)
	}
}

func TestSenderAndReceiverReports(t *testing.T) {
	r := newRoom(t, 3)
	r.browser(1, 2)
	const sent = 0x1234_5678_9ABC_DEF0
	r.send(1, voice, loud)
	r.Control(r.now, r.wall(), 0, rtp.AppendSenderReport(nil, 4711, rtp.SenderInfo{NTP: sent}, nil))
	r.send(3, voice, loud)
	all := r.reports(3 * time.Second)
	if len(all) != 2 {
		t.Fatalf("%d reports", len(all))
	}
	c, rest, ok := rtp.NextControl(all[0].Packet)
	block, found := c.Block(0)
	if !ok || !found || c.Type != rtp.TypeReceiverReport || !slices.Equal(all[0].To, []Slot{0}) {
		t.Fatalf("first report: %+v to %v", c, all[0].To)
	}
	if block.SSRC != 4711 || block.Lost != 1 || block.LastReport != 0x5678_9ABC || block.Delay == 0 {
		t.Errorf("block %+v", block)
	}
	if c, _, _ := rtp.NextControl(rest); c.Type != rtp.TypeSourceDescription {
		t.Errorf("then %+v, want a source description", c)
	}
	c, _, _ = rtp.NextControl(all[1].Packet)
	info, ok := c.SenderInfo()
	if ssrc, _ := c.SSRC(); !ok || ssrc != 16 || info.Packets != 2 || !slices.Equal(all[1].To, []Slot{1}) {
		t.Errorf("second report: %#x %+v to %v", ssrc, info, all[1].To)
	}
	if all := r.reports(2 * time.Second); len(all) != 0 {
		t.Errorf("%d reports too early", len(all))
	}
}

func TestNativeSenderGetsReportsOnceItReports(t *testing.T) {
	r := newRoom(t, 2)
	r.send(1, voice, loud)
	if all := r.reports(3 * time.Second); len(all) != 0 {
		t.Fatalf("%d reports among clients that know none", len(all))
	}
	r.Control(r.now, r.wall(), 0, rtp.AppendSenderReport(nil, 4711, rtp.SenderInfo{}, nil))
	r.send(2, voice, loud)
	if all := r.reports(5 * time.Second); len(all) != 1 {
		t.Errorf("%d reports", len(all))
	}
}

func TestQualityFromReceiverReports(t *testing.T) {
	r := newRoom(t, 3)
	r.join(4, 2, 0)
	middle := rtp.MiddleNTP(rtp.NTP(r.wall()))
	blocks := []rtp.ReportBlock{
		{SSRC: 16, FractionLost: 64, Jitter: 480, LastReport: middle - 6554 - 3277, Delay: 3277},
		{SSRC: 32, FractionLost: 10, Jitter: 960},
		{SSRC: 64, FractionLost: 255}, // of another channel
		{SSRC: 99, FractionLost: 255}, // of nobody
	}
	r.Control(r.now, r.wall(), 2, rtp.AppendReceiverReport(nil, 1, blocks))
	q := r.Quality(2)
	if q.FractionLost != 64 || q.Jitter != 20*time.Millisecond || q.RoundTrip.Round(time.Millisecond) != 100*time.Millisecond {
		t.Errorf("got %+v", q)
	}
	if totals := r.QualityTotals(); totals.Blocks != 2 || totals.FractionLost != 74 || totals.RoundTrips != 1 {
		t.Errorf("got %+v", totals)
	}
}

// bye is an RTCP BYE of source 4711.
var bye = []byte{0x81, rtp.TypeBye, 0, 1, 0, 0, 4711 >> 8, 4711 & 0xFF}

func TestByeEndsSpeaking(t *testing.T) {
	r := newRoom(t, 2)
	r.send(1, voice, loud)
	r.speaks(nil)
	r.Control(r.now, r.wall(), 0, bye)
	if on, changed := r.speaks(r.advance(scanInterval)); on || !changed {
		t.Error("still speaking")
	}
}

func FuzzControl(f *testing.F) {
	f.Add(rtp.AppendReceiverReport(nil, 1, []rtp.ReportBlock{{SSRC: 16}}))
	f.Add(rtp.AppendSenderReport(nil, 4711, rtp.SenderInfo{NTP: 1}, []rtp.ReportBlock{{SSRC: 16, Jitter: 1 << 31}}))
	f.Add(bye)
	f.Fuzz(func(t *testing.T, compound []byte) {
		r := newRoom(t, 2)
		r.send(1, voice, loud)
		r.Control(r.now, r.wall(), 0, compound)
		r.Control(r.now, r.wall(), 1, compound)
		for _, slot := range []Slot{0, 1} {
			if q := r.Quality(slot); q.RoundTrip < 0 || q.Jitter < 0 || q.RoundTrip > time.Minute {
				t.Errorf("quality %+v", q)
			}
		}
	})
}
