package rtp

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"hubbub.dev/hubbub/internal/core/clock"
)

var someBlocks = []ReportBlock{
	{SSRC: 1, FractionLost: 128, Lost: 70000, Highest: 5<<16 | 7, Jitter: 48, LastReport: 0x01020304, Delay: 65536},
	{SSRC: 2, Lost: 1<<23 - 1, Highest: 1},
}

func TestReportsAreReadByPion(t *testing.T) {
	info := SenderInfo{NTP: 0x1122334455667788, Timestamp: 960, Packets: 50, Octets: 8000}
	compound := AppendSenderReport(nil, 42, info, someBlocks)
	compound = AppendReceiverReport(compound, 43, someBlocks[:1])
	for size := range 6 {
		compound = AppendSourceDescription(compound, 42, strings.Repeat("x", size))
	}
	packets, err := rtcp.Unmarshal(compound)
	if err != nil {
		t.Fatal(err)
	}
	sr := packets[0].(*rtcp.SenderReport)
	if sr.SSRC != 42 || sr.NTPTime != info.NTP || sr.RTPTime != 960 || sr.PacketCount != 50 || sr.OctetCount != 8000 {
		t.Errorf("sender report %+v", sr)
	}
	if b := sr.Reports[0]; len(sr.Reports) != 2 || b.SSRC != 1 || b.FractionLost != 128 || b.TotalLost != 70000 ||
		b.LastSequenceNumber != 5<<16|7 || b.Jitter != 48 || b.LastSenderReport != 0x01020304 || b.Delay != 65536 {
		t.Errorf("blocks %+v", sr.Reports)
	}
	if rr := packets[1].(*rtcp.ReceiverReport); rr.SSRC != 43 || len(rr.Reports) != 1 {
		t.Errorf("receiver report %+v", rr)
	}
	for size := range 6 {
		sdes := packets[2+size].(*rtcp.SourceDescription)
		if c := sdes.Chunks[0]; c.Source != 42 || c.Items[0].Text != strings.Repeat("x", size) {
			t.Errorf("source description of %d bytes: %+v", size, c)
		}
	}
}

func TestReportsOfPionAreRead(t *testing.T) {
	compound, err := rtcp.Marshal([]rtcp.Packet{
		&rtcp.SenderReport{SSRC: 9, NTPTime: 1 << 40, RTPTime: 2, PacketCount: 3, OctetCount: 4, Reports: []rtcp.ReceptionReport{
			{SSRC: 1, FractionLost: 128, TotalLost: 70000, LastSequenceNumber: 5<<16 | 7, Jitter: 48, LastSenderReport: 0x01020304, Delay: 65536},
		}},
		&rtcp.PictureLossIndication{SenderSSRC: 9, MediaSSRC: 8},
		&rtcp.Goodbye{Sources: []uint32{9, 10}, Reason: "bye"},
	})
	if err != nil {
		t.Fatal(err)
	}
	report, rest, ok := NextControl(compound)
	info, isSender := report.SenderInfo()
	if !ok || !isSender || info != (SenderInfo{NTP: 1 << 40, Timestamp: 2, Packets: 3, Octets: 4}) {
		t.Errorf("sender info %+v", info)
	}
	if ssrc, ok := report.SSRC(); !ok || ssrc != 9 {
		t.Errorf("sender %d", ssrc)
	}
	if b, ok := report.Block(0); !ok || b != someBlocks[0] {
		t.Errorf("block %+v", b)
	}
	if _, ok := report.Block(1); ok {
		t.Error("a block past the last")
	}
	feedback, rest, ok := NextControl(rest)
	if !ok || feedback.Type != TypePayloadFeedback || feedback.Count != 1 {
		t.Errorf("feedback %+v", feedback)
	}
	if _, ok := feedback.Block(0); ok {
		t.Error("a report block in feedback")
	}
	bye, rest, ok := NextControl(rest)
	if ssrc, has := bye.SSRC(); !ok || bye.Type != TypeBye || bye.Count != 2 || !has || ssrc != 9 {
		t.Errorf("bye %+v", bye)
	}
	if _, _, ok := NextControl(rest); ok {
		t.Error("a packet past the end")
	}
}

func TestNegativeLossSurvivesTheWire(t *testing.T) {
	c, _, _ := NextControl(AppendReceiverReport(nil, 1, []ReportBlock{{Lost: -3}}))
	if b, ok := c.Block(0); !ok || b.Lost != -3 {
		t.Errorf("lost %d", b.Lost)
	}
}

func TestNextControlRefuses(t *testing.T) {
	for name, pkt := range map[string][]byte{
		"cut":             {0x80, 201, 0},
		"longer than it":  {0x80, 201, 0, 2, 0, 0, 0, 0},
		"version":         {0x40, 201, 0, 0},
		"padding of zero": {0xA0, 201, 0, 1, 0, 0, 0, 0},
		"padding beyond":  {0xA0, 201, 0, 1, 0, 0, 0, 5},
		"padded nothing":  {0xA0, 201, 0, 0},
	} {
		if _, _, ok := NextControl(pkt); ok {
			t.Errorf("%s was taken", name)
		}
	}
	c, _, ok := NextControl([]byte{0x81, 201, 0, 0})
	if _, hasSSRC := c.SSRC(); !ok || hasSSRC {
		t.Error("an SSRC in an empty packet")
	}
}

func TestReceiver(t *testing.T) {
	r := NewReceiver(48000)
	if _, ok := r.Report(1, 0); ok {
		t.Error("a report before the first packet")
	}
	start := clock.Time(time.Hour)
	at := func(packet int, late time.Duration) clock.Time {
		return start.Add(time.Duration(packet)*20*time.Millisecond + late)
	}
	const first = 65530
	send := func(packet int, late time.Duration) {
		r.Update(uint16(first+packet), uint32(packet)*960, at(packet, late))
	}
	for i := range 10 {
		if i != 3 && i != 5 {
			send(i, 0)
		}
	}
	r.SenderReport(0x1111_2222_3333_4444, at(9, 0))
	b, ok := r.Report(7, at(9, 500*time.Millisecond))
	want := ReportBlock{SSRC: 7, FractionLost: 2 * 256 / 10, Lost: 2, Highest: first + 9, LastReport: 0x2222_3333, Delay: 1 << 15}
	if !ok || b != want {
		t.Errorf("%+v, want %+v", b, want)
	}

	// A late packet fills its gap, so the next interval gained one.
	send(5, 60*time.Millisecond)
	send(10, 0)
	b, _ = r.Report(7, at(10, 0))
	if b.Lost != 1 || b.FractionLost != 0 {
		t.Errorf("after a late packet: %+v", b)
	}
}

func TestJitter(t *testing.T) {
	r := NewReceiver(48000)
	for i := range 500 {
		// Every other packet is 5 ms late: the estimate tends to 240 units.
		late := time.Duration(i%2) * 5 * time.Millisecond
		r.Update(uint16(i), uint32(i)*960, clock.Time(i)*clock.Time(20*time.Millisecond)+clock.Time(late)+1)
	}
	if b, _ := r.Report(1, 0); b.Jitter < 235 || b.Jitter > 240 {
		t.Errorf("jitter %d, want about 240", b.Jitter)
	}
	// Neither a long silence nor a clock that jumps is jitter.
	before := r.jitter
	r.Update(500, 0x80000000, clock.Time(11*time.Second))
	r.Update(501, 0x80000000+960, clock.Time(time.Hour))
	if r.jitter != before {
		t.Errorf("jitter %d became %d over a silence", before, r.jitter)
	}
}

func TestReceiverReportsTheSourcesNumbers(t *testing.T) {
	r := NewReceiver(48000)
	for _, seq := range []uint16{10, 11, 50000, 50001} {
		r.Update(seq, 0, 1)
	}
	if b, _ := r.Report(1, 2); uint16(b.Highest) != 50001 || b.Lost != 0 {
		t.Errorf("after a restart: %+v", b)
	}
}

func TestSender(t *testing.T) {
	s := NewSender(48000)
	wall := time.Date(2026, 11, 22, 0, 0, 0, 500_000_000, time.UTC)
	if _, ok := s.Report(1, wall); ok {
		t.Error("a report before the first packet")
	}
	s.Update(0xFFFFFFFF, 160, clock.Time(time.Second))
	s.Update(960-1, 140, clock.Time(time.Second))
	info, ok := s.Report(clock.Time(3*time.Second), wall)
	want := SenderInfo{NTP: NTP(wall), Timestamp: 960 - 1 + 96000, Packets: 2, Octets: 300}
	if !ok || info != want {
		t.Errorf("%+v, want %+v", info, want)
	}
}

func TestNTP(t *testing.T) {
	// RFC 5905 figure 4: the first day of UNIX, and one half second later.
	if got := NTP(time.Unix(0, 0)); got != 2208988800<<32 {
		t.Errorf("%d", got)
	}
	if got := NTP(time.Unix(0, 500_000_000)); got != 2208988800<<32|1<<31 {
		t.Errorf("%x", got)
	}
}

func TestRoundTrip(t *testing.T) {
	// The example of RFC 3550 figure 2: A = 0xb710:8000, LSR 0xb705:2000, DLSR 5.25 s.
	b := ReportBlock{LastReport: 0xb7052000, Delay: 0x00054000}
	if rtt, ok := b.RoundTrip(0xb7108000); !ok || rtt != 6125*time.Millisecond {
		t.Errorf("round trip %v", rtt)
	}
	if rtt, ok := b.RoundTrip(0xb7052000); !ok || rtt != 0 {
		t.Errorf("a clock that runs fast gives %v", rtt)
	}
	if _, ok := (ReportBlock{}).RoundTrip(1); ok {
		t.Error("a round trip without a sender report")
	}
}

func TestReportsAllocateNothing(t *testing.T) {
	buf := make([]byte, 0, 1200)
	if n := testing.AllocsPerRun(100, func() {
		compound := AppendSenderReport(buf, 1, SenderInfo{}, someBlocks)
		compound = AppendSourceDescription(compound, 1, "server")
		for c, rest, ok := NextControl(compound); ok; c, rest, ok = NextControl(rest) {
			c.Block(0)
		}
	}); n != 0 {
		t.Errorf("%v allocations per report", n)
	}
}

func FuzzNextControl(f *testing.F) {
	f.Add(append(AppendSenderReport(nil, 1, SenderInfo{}, someBlocks), 0x82, TypeBye, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2))
	f.Add([]byte{0xA0, 201, 0, 1, 0, 0, 0, 4})
	f.Fuzz(func(t *testing.T, compound []byte) {
		taken := 0
		for c, rest, ok := NextControl(compound); ok; c, rest, ok = NextControl(rest) {
			taken += 4 + len(c.Body)
			c.SSRC()
			c.SenderInfo()
			for i := range 32 {
				if _, ok := c.Block(i); ok && i >= int(c.Count) {
					t.Fatalf("block %d of %d", i, c.Count)
				}
			}
			if !bytes.HasSuffix(compound, rest) {
				t.Fatal("the rest is no suffix")
			}
		}
		if taken > len(compound) {
			t.Fatalf("%d bytes read of %d", taken, len(compound))
		}
	})
}
