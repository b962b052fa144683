package voice

import (
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub.dev/hubbub/internal/core/signalling"
	"hubbub.dev/hubbub/proto"
)

type metrics struct {
	closes     *prometheus.CounterVec
	identifies prometheus.Counter
	resumes    prometheus.Counter
	slow       prometheus.Counter
	refused    prometheus.Counter
	joinBytes  *prometheus.HistogramVec
	joinTime   *prometheus.HistogramVec
}

// newMetrics registers the metrics of s; a nil registerer keeps them private.
func newMetrics(to prometheus.Registerer, s *Service) (metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "hubbub_voice_" + name, Help: help})
	}
	m := metrics{
		identifies: counter("identifies_total", "Identifies with a valid token."),
		resumes:    counter("resumes_total", "Resumes with a valid token."),
		slow:       counter("slow_clients_total", "Connections closed for taking too little."),
		refused:    counter("commands_refused_total", "Commands that a worker's full mailbox refused."),
		closes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubbub_voice_closes_total", Help: "Connections closed by the server, by close code.",
		}, []string{"code"}),
		joinBytes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hubbub_voice_join_bytes",
			Help:    "Bytes of payloads from Hello to Session Description.",
			Buckets: []float64{250, 500, 750, 1000, 1200, 1500, 2000, 4000},
		}, []string{"transport", "direction"}),
		joinTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hubbub_voice_join_seconds",
			Help:    "Time from Identify to Session Description.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"transport"}),
	}
	if to == nil {
		return m, nil
	}
	var err error
	for _, c := range append(s.gauges(), m.identifies, m.resumes, m.slow, m.refused, m.closes, m.joinBytes, m.joinTime) {
		err = errors.Join(err, to.Register(c))
	}
	return m, err
}

// gauges returns what is read from the service when it is asked for.
func (s *Service) gauges() []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hubbub_voice_sessions", Help: "Voice sessions.",
		}, func() float64 { return float64(s.Sessions()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hubbub_voice_connections", Help: "Voice WebSocket connections.",
		}, func() float64 { return float64(s.open.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hubbub_voice_waiting", Help: "Identifies and Resumes that wait for their turn.",
		}, func() float64 { return float64(s.turns.Waiting()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "hubbub_voice_turned_away_total", Help: "Connections, Identifies and Resumes told to come back, since too many wait.",
		}, func() float64 { return float64(s.turns.Refused()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "hubbub_voice_dropped_total", Help: "Inputs that a shard's full mailbox refused.",
		}, func() float64 {
			var n uint64
			for _, h := range s.shards {
				n += h.inbox.Refused() + h.control.Refused()
			}
			return float64(n)
		}),
	}
}

func (m *metrics) closed(code proto.CloseCode) {
	m.closes.WithLabelValues(strconv.Itoa(int(code))).Inc()
}

func (m *metrics) admitted(resume bool) {
	if resume {
		m.resumes.Inc()
	} else {
		m.identifies.Inc()
	}
}

func (m *metrics) joined(c *client, j *signalling.Joined) {
	m.joinBytes.WithLabelValues(j.Transport, "in").Observe(float64(c.in.Load()))
	m.joinBytes.WithLabelValues(j.Transport, "out").Observe(float64(c.out.Load()))
	m.joinTime.WithLabelValues(j.Transport).Observe(j.After.Seconds())
}
