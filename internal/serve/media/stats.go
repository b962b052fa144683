package media

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
)

// stray says why something got no further than the worker.
type stray uint8

const (
	strayUnknown      stray = iota // of no peer
	strayNotReady                  // the peer's transport has no keys yet, or has ended
	strayAttempts                  // too many strangers' packets to decrypt
	strayAddressTaken              // from an address that belongs to another peer
	strayPayload                   // a payload type that was not negotiated
	strayHandshakes                // too many handshakes
	strayUnsealed                  // too large, or no packet numbers left
	strayCommand                   // a command for no peer, or given twice
	strayBlocked                   // from a network that floods
	strayAmplified                 // a check shorter than its answer
	strayCount
)

var strayNames = [strayCount]string{
	"unknown", "not_ready", "attempts", "address_taken", "payload_type", "handshakes", "unsealed", "command", "blocked", "amplified",
}

// counters are counted where it happens and read by publish alone.
type counters struct {
	packetsIn, bytesIn   uint64
	packetsOut, bytesOut uint64
	sends, sendDrops     uint64
	strays               [strayCount]uint64
	refused              [rtp.DropCount]uint64
	verdicts             [sfu.VerdictCount]uint64

	relayedIn, relayedOut uint64

	gathered uint64        // packets read
	waited   time.Duration // how long each was waited with at most, in sum

	busy        time.Duration // since the last publish
	publishedAt clock.Time
}

// WorkerStats is what one worker counted since it started, in whatever processes, and
// what it has now.
type WorkerStats struct {
	Port       uint16 `json:"port"`
	PacketsIn  uint64 `json:"packets_in"`
	BytesIn    uint64 `json:"bytes_in"`
	PacketsOut uint64 `json:"packets_out"`
	BytesOut   uint64 `json:"bytes_out"`
	// Sends counts what the packets out left as: several to one address leave as one.
	Sends uint64 `json:"sends"`
	// Refused counts sends that the kernel took only one packet at a time.
	Refused uint64 `json:"refused"`
	// Forwarded counts packets that went to at least one receiver.
	Forwarded uint64 `json:"forwarded"`
	// Drops counts received packets that were not forwarded, and orders and packets
	// that could not be carried out, by reason.
	Drops map[string]uint64 `json:"drops"`
	// KernelDrops did not fit the receive buffer or could not be any peer's, SendDrops
	// did not fit the send buffer.
	KernelDrops uint64 `json:"kernel_drops"`
	SendDrops   uint64 `json:"send_drops"`

	// RelayedIn and RelayedOut count the packets among those in and out that other
	// workers sent and were sent, for channels that are spread over several.
	RelayedIn  uint64 `json:"relayed_in"`
	RelayedOut uint64 `json:"relayed_out"`

	Peers      int `json:"peers"`
	Relays     int `json:"relays"`
	Channels   int `json:"channels"`
	Speaking   int `json:"speaking"`
	Handshakes int `json:"handshakes"`
	// Load is the part of the last second that the worker was busy, from 0 to 1.
	// It is 1 while the worker sheds.
	Load float64 `json:"load"`
	// Shed is the part of the deliveries that the worker gives up now, for it has more
	// to do than it can.
	Shed float64 `json:"shed"`

	// Attacked says that more packets of nobody come than a worker should bear, and
	// BlockedNetworks is how many networks' strangers are dropped unread now.
	Attacked        bool `json:"attacked"`
	BlockedNetworks int  `json:"blocked_networks"`

	// Wait is how long a packet is waited with now, so that others leave with it, and
	// WaitMean the mean over all packets since the start of the process: at most, for the
	// last of a batch came later than the first.
	Wait     float64 `json:"wait_ms"`
	WaitMean float64 `json:"wait_mean_ms"`

	// Means over what receivers reported since the start of the process.
	LossReported      float64 `json:"loss_reported"` // 0 to 1
	JitterReported    float64 `json:"jitter_reported_ms"`
	RoundTripReported float64 `json:"round_trip_reported_ms"`
}

// counters returns those of its numbers that begin at zero with each process and only
// go up, save Drops.
func (s *WorkerStats) counters() []*uint64 {
	return []*uint64{
		&s.PacketsIn, &s.BytesIn, &s.PacketsOut, &s.BytesOut, &s.Sends, &s.Refused, &s.Forwarded, &s.SendDrops,
		&s.RelayedIn, &s.RelayedOut,
	}
}

// onwards returns what a process says now, with its counters going on from a total that
// had in it what the process said last.
func (s WorkerStats) onwards(total, last WorkerStats) WorkerStats {
	sums, before := total.counters(), last.counters()
	for i, n := range s.counters() {
		*n += *sums[i] - *before[i]
	}
	drops := make(map[string]uint64, len(s.Drops))
	for reason, n := range s.Drops {
		drops[reason] = n + total.Drops[reason] - last.Drops[reason]
	}
	s.Drops = drops
	return s
}

// publish makes a snapshot for the other goroutines.
func (w *worker) publish(now clock.Time) {
	s := &WorkerStats{
		Port:        w.socket.LocalAddr().Port(),
		PacketsIn:   w.packetsIn,
		BytesIn:     w.bytesIn,
		PacketsOut:  w.packetsOut,
		BytesOut:    w.bytesOut,
		Sends:       w.sends,
		Refused:     w.socket.Refused(),
		Forwarded:   w.verdicts[sfu.Forwarded],
		Drops:       w.drops(),
		KernelDrops: w.socket.Dropped(),
		SendDrops:   w.sendDrops,
		RelayedIn:   w.relayedIn,
		RelayedOut:  w.relayedOut,
		Peers:       w.router.Len(),
		Relays:      w.router.Relays(),
		Channels:    w.router.Channels(),
		Speaking:    w.router.Speaking(),
		Handshakes:  int(w.handshaking.Load()),
		Attacked:    w.guard.Attacked(),

		BlockedNetworks: w.guard.Networks(now),
	}
	if elapsed := now.Sub(w.publishedAt); w.publishedAt != 0 && elapsed > 0 {
		s.Load = min(float64(w.busy)/float64(elapsed), 1)
	}
	if s.Shed = w.overload.shed; s.Shed > 0 {
		s.Load = 1
	}
	if q := w.router.QualityTotals(); q.Blocks > 0 {
		s.LossReported = float64(q.FractionLost) / 256 / float64(q.Blocks)
		s.JitterReported = milliseconds(q.Jitter) / float64(q.Blocks)
		if q.RoundTrips > 0 {
			s.RoundTripReported = milliseconds(q.RoundTrip) / float64(q.RoundTrips)
		}
	}
	s.Wait = milliseconds(w.gather.held())
	if w.gathered > 0 {
		s.WaitMean = milliseconds(w.waited) / float64(w.gathered)
	}
	w.busy, w.publishedAt = 0, now
	w.published.Store(s)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (w *worker) drops() map[string]uint64 {
	drops := make(map[string]uint64, int(strayCount)+int(rtp.DropCount)+int(sfu.VerdictCount))
	for i, name := range strayNames {
		drops[name] = w.strays[i]
	}
	for d := rtp.Accepted + 1; d < rtp.DropCount; d++ {
		drops[d.String()] = w.refused[d]
	}
	for v := sfu.Forwarded + 1; v < sfu.VerdictCount; v++ {
		drops[v.String()] = w.verdicts[v]
	}
	return drops
}

// snapshots are what a set of workers counted.
type snapshots interface {
	Workers() int
	Stats(worker int) WorkerStats
}

// collector shows the workers' snapshots to Prometheus.
type collector struct{ media snapshots }

// registration is what a registerer holds of a set of workers. The zero value is of
// none.
type registration struct {
	to         prometheus.Registerer
	collectors []prometheus.Collector
}

// register shows the workers, and more, to a registerer that may be nil.
func register(to prometheus.Registerer, workers snapshots, more ...prometheus.Collector) (r registration, err error) {
	if to == nil {
		return r, nil
	}
	r.to = to
	for _, c := range append(more, collector{workers}) {
		if err := to.Register(c); err != nil {
			r.unregister()
			return registration{}, fmt.Errorf("media: metrics: %w", err)
		}
		r.collectors = append(r.collectors, c)
	}
	return r, nil
}

func (r registration) unregister() {
	for _, c := range r.collectors {
		r.to.Unregister(c)
	}
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("hubbub_media_"+name, help, append([]string{"worker"}, labels...), nil)
}

// metric is one series of each worker.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*WorkerStats) float64
}

var metrics = []metric{
	{describe("packets_received_total", "Datagrams read from the socket."), prometheus.CounterValue,
		func(s *WorkerStats) float64 { return float64(s.PacketsIn) }},
	{describe("bytes_received_total", "UDP payload read from the socket."), prometheus.CounterValue,
		func(s *WorkerStats) float64 { return float64(s.BytesIn) }},
	{describe("packets_sent_total", "Datagrams written to the socket."), prometheus.CounterValue,
		func(s *WorkerStats) float64 { return float64(s.PacketsOut) }},
	{describe("sends_total", "Sends that the datagrams written left as."), prometheus.CounterValue,
		func(s *WorkerStats) float64 { return float64(s.Sends) }},
	{describe("refused_total", "Sends that the kernel took only one datagram at a time."), prometheus.CounterValue,
		func(s *WorkerStats) float64 { return float64(s.Refused) }},
	{describe("bytes_sent_total", "UDP payload written to the socket."), prometheus.CounterValue,
		func(s *WorkerStats) float64 { return float64(s.BytesOut) }},
	{describe("packets_forwarded_total", "Packets that went to at least one receiver."), prometheus.CounterValue,
		func(s *WorkerStats) float64 { return float64(s.Forwarded) }},
	{describe("relayed_received_total", "Packets of other workers, of channels that are spread over several."), prometheus.CounterValue,
		func(s *WorkerStats) float64 { return float64(s.RelayedIn) }},
	{describe("relayed_sent_total", "Packets to other workers, of channels that are spread over several."), prometheus.CounterValue,
		func(s *WorkerStats) float64 { return float64(s.RelayedOut) }},
	{describe("kernel_drops_total", "Datagrams that did not fit the receive buffer, or could not be any peer's."), prometheus.CounterValue,
		func(s *WorkerStats) float64 { return float64(s.KernelDrops) }},
	{describe("send_drops_total", "Datagrams that the kernel did not take."), prometheus.CounterValue,
		func(s *WorkerStats) float64 { return float64(s.SendDrops) }},
	{describe("peers", "Peers of the worker."), prometheus.GaugeValue,
		func(s *WorkerStats) float64 { return float64(s.Peers) }},
	{describe("relays", "Relays to other workers."), prometheus.GaugeValue,
		func(s *WorkerStats) float64 { return float64(s.Relays) }},
	{describe("channels", "Channels with peers."), prometheus.GaugeValue,
		func(s *WorkerStats) float64 { return float64(s.Channels) }},
	{describe("speaking", "Peers that speak."), prometheus.GaugeValue,
		func(s *WorkerStats) float64 { return float64(s.Speaking) }},
	{describe("handshakes", "DTLS handshakes under way."), prometheus.GaugeValue,
		func(s *WorkerStats) float64 { return float64(s.Handshakes) }},
	{describe("load", "Part of the last second that the worker was busy."), prometheus.GaugeValue,
		func(s *WorkerStats) float64 { return s.Load }},
	{describe("shed", "Part of the deliveries that the worker gives up, having too much to do."), prometheus.GaugeValue,
		func(s *WorkerStats) float64 { return s.Shed }},
	{describe("attacked", "1 while more packets of nobody come than a worker should bear."), prometheus.GaugeValue,
		func(s *WorkerStats) float64 {
			if s.Attacked {
				return 1
			}
			return 0
		}},
	{describe("blocked_networks", "Networks whose strangers are dropped unread for they flood."), prometheus.GaugeValue,
		func(s *WorkerStats) float64 { return float64(s.BlockedNetworks) }},
	{describe("wait_seconds", "How long a packet is waited with, so that others leave with it."), prometheus.GaugeValue,
		func(s *WorkerStats) float64 { return s.Wait / 1000 }},
}

var dropsDesc = describe("drops_total", "What was received and not forwarded, by reason.", "reason")

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range metrics {
		ch <- m.desc
	}
	ch <- dropsDesc
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for i := range c.media.Workers() {
		s, worker := c.media.Stats(i), strconv.Itoa(i)
		for _, m := range metrics {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&s), worker)
		}
		for reason, n := range s.Drops {
			ch <- prometheus.MustNewConstMetric(dropsDesc, prometheus.CounterValue, float64(n), worker, reason)
		}
	}
}
