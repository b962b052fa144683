package load

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// WorkerCount is what one media worker of the server has, and what it has counted since
// the server started.
type WorkerCount struct {
	Worker     int     `json:"worker"`
	Peers      float64 `json:"peers"`
	Load       float64 `json:"load"` // of the last second, 0 to 1
	Sent       float64 `json:"sent"`
	RelayedIn  float64 `json:"relayed_in"`
	RelayedOut float64 `json:"relayed_out"`
}

// workerMetrics are the server's metrics that a WorkerCount has.
var workerMetrics = map[string]func(*WorkerCount) *float64{
	"peers":                  func(w *WorkerCount) *float64 { return &w.Peers },
	"load":                   func(w *WorkerCount) *float64 { return &w.Load },
	"packets_sent_total":     func(w *WorkerCount) *float64 { return &w.Sent },
	"relayed_received_total": func(w *WorkerCount) *float64 { return &w.RelayedIn },
	"relayed_sent_total":     func(w *WorkerCount) *float64 { return &w.RelayedOut },
}

const (
	mediaMetric = "hubbub_media_"
	mostWorkers = 256
)

// workers asks the server for its workers' counters: none when it does not tell.
func (a *admin) workers(ctx context.Context) []WorkerCount {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+"/metrics", nil)
	if err != nil {
		return nil
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	res, err := a.http.Do(req)
	if err != nil {
		return nil
	}
	defer func() { _ = res.Body.Close() }()
	return parseWorkers(io.LimitReader(res.Body, answerLimit))
}

// parseWorkers reads Prometheus' text format, of which it knows lines with the worker as
// their only label, and passes over all others.
func parseWorkers(text io.Reader) []WorkerCount {
	var out []WorkerCount
	for lines := bufio.NewScanner(text); lines.Scan(); {
		line, ours := strings.CutPrefix(lines.Text(), mediaMetric)
		name, rest, labelled := strings.Cut(line, `{worker="`)
		number, value, whole := strings.Cut(rest, `"} `)
		field := workerMetrics[name]
		if !ours || !labelled || !whole || field == nil {
			continue
		}
		worker, err := strconv.Atoi(number)
		if err != nil || worker < 0 || worker >= mostWorkers {
			continue
		}
		for worker >= len(out) {
			out = append(out, WorkerCount{Worker: len(out)})
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			*field(&out[worker]) = v
		}
	}
	return out
}
