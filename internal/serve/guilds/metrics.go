package guilds

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests  *prometheus.CounterVec
	sent      prometheus.Counter
	unsent    prometheus.Counter
	dropped   prometheus.Counter
	malformed prometheus.Counter
	failures  prometheus.Counter
	forwarded prometheus.Counter
	misplaced prometheus.Counter
	relocated prometheus.Counter
}

func newMetrics(r prometheus.Registerer, shards []*shard) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "hubbub_guilds_" + name, Help: help})
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubbub_guilds_requests_total", Help: "Requests to guilds by kind."}, []string{"kind"}),
		sent:      counter("messages_total", "Messages that guilds sent to gateways and voice servers."),
		unsent:    counter("messages_lost_total", "Messages that the bus did not take."),
		dropped:   counter("requests_dropped_total", "Requests and announcements that found a shard's mailbox full."),
		malformed: counter("requests_malformed_total", "Requests and announcements that could not be read."),
		forwarded: counter("requests_forwarded_total", "Requests that were passed on to the guild's owner."),
		misplaced: counter("requests_misplaced_total", "Requests that were refused because the guild has another owner."),
		relocated: counter("relocated_total", "People whose channel was moved away from a voice node that drains or is attacked."),
		failures:  counter("store_failures_total", "Requests that failed because the store did."),
	}
	if r == nil {
		return m
	}
	sum := func(f func(*shard) int64) func() float64 {
		return func() float64 {
			n := int64(0)
			for _, sh := range shards {
				n += f(sh)
			}
			return float64(n)
		}
	}
	r.MustRegister(m.requests, m.sent, m.unsent, m.dropped, m.malformed, m.failures, m.forwarded, m.misplaced, m.relocated,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hubbub_guilds_loaded", Help: "Guilds in memory."},
			sum(func(sh *shard) int64 { return sh.loaded.Load() })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hubbub_guilds_mailbox", Help: "Requests that wait for a shard."},
			sum(func(sh *shard) int64 { return int64(sh.mailbox.Len()) })))
	return m
}
