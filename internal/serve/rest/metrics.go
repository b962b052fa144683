package rest

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	limited  *prometheus.CounterVec
	seconds  prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubbub_rest_requests_total", Help: "REST requests by route and class of status."}, []string{"route", "class"}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubbub_rest_limited_total", Help: "REST requests answered 429, by which limit."}, []string{"limit"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hubbub_rest_request_seconds", Help: "Time to answer a REST request.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5}}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.limited, m.seconds)
	}
	return m
}

func (m *metrics) served(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status/100)+"xx").Inc()
	m.seconds.Observe(took.Seconds())
}
