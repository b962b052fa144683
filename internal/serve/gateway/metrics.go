package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	sessions   prometheus.Gauge
	dispatches prometheus.Counter
	failures   prometheus.Counter
	slow       prometheus.Counter
	overruns   prometheus.Counter
	transfers  *prometheus.CounterVec
	resumes    *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, g *Service) *metrics {
	t := &g.traffic
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "hubbub_gateway_" + name, Help: help})
	}
	m := &metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hubbub_gateway_sessions", Help: "Sessions, connected or waiting to be resumed."}),
		dispatches: counter("dispatches_total", "Events that came from guilds, before they fan out."),
		failures:   counter("identify_failures_total", "Identifies refused for their token or intents."),
		slow:       counter("slow_clients_total", "Connections closed because the client did not take what it was sent."),
		overruns:   counter("overruns_total", "Times that a shard lost events and ended its sessions."),
		resumes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubbub_gateway_resumes_total", Help: "Resumes by result: resumed, lost, refused."}, []string{"result"}),
	}
	m.transfers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hubbub_gateway_transfers_total", Help: "Sessions that came from another gateway, or left for one."}, []string{"way"})
	if r == nil {
		return m
	}
	read := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "hubbub_gateway_" + name, Help: help}, f)
	}
	r.MustRegister(m.sessions, m.dispatches, m.failures, m.slow, m.overruns, m.resumes, m.transfers,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hubbub_gateway_connections", Help: "Open WebSockets, with a session or not."}, g.door.connections),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hubbub_gateway_waiting", Help: "Identifies and Resumes that wait for their turn."},
			func() float64 { return float64(g.turns.Waiting()) }),
		read("turned_away_total", "Connections, Identifies and Resumes told to come back, since too many wait.",
			func() float64 { return float64(g.turns.Refused()) }),
		read("received_bytes_total", "Bytes from clients, under the WebSocket layer.", func() float64 { return float64(t.In.Load()) }),
		read("sent_bytes_total", "Bytes to clients, under the WebSocket layer.", func() float64 { return float64(t.Out.Load()) }))
	return m
}
