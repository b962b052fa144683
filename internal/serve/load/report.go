package load

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what a run has measured. Durations in it are in ms unless they say
// otherwise, and shares are between 0 and 1.
type Report struct {
	Version  string   `json:"version"`
	At       string   `json:"at"`
	Host     Host     `json:"host"`
	Settings Settings `json:"settings"`
	Join     *Join    `json:"join,omitempty"`
	Memory   *Memory  `json:"memory,omitempty"`
	Windows  []Window `json:"windows"`
	Medians  []Median `json:"medians"`
	Ramps    []Ramp   `json:"ramps,omitempty"`
	Warnings []string `json:"warnings,omitempty"`

	Workers []WorkerCount `json:"workers,omitempty"` // of the server, at the end
}

// Host is the machine of the load, and of a server that it started.
type Host struct {
	Kernel string `json:"kernel"`
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Pinned bool   `json:"pinned"`
}

// Settings are what was asked for.
type Settings struct {
	Clients   string  `json:"clients"`
	Speakers  int     `json:"speakers"`
	Listeners int     `json:"listeners"`
	Channels  int     `json:"channels"`
	Talk      float64 `json:"talk"`
	Rate      float64 `json:"rate"`
	Size      int     `json:"size"`
	Phase     string  `json:"phase"`
	Path      string  `json:"path,omitempty"`
	Settle    float64 `json:"settle,omitempty"` // s
	Seconds   float64 `json:"seconds"`
	Runs      int     `json:"runs"`
	Joins     int     `json:"joins"`
}

func (s *Settings) path() string {
	if s.Path == "" {
		return ""
	}
	return ", over the " + s.Path
}

// Join says how long listeners took from op 4: to the Session Description, and to
// the first packet that was whole.
type Join struct {
	Clients    int       `json:"clients"`
	ReadyP50   float64   `json:"ready_p50"`
	ReadyP95   float64   `json:"ready_p95"`
	Heard      int       `json:"heard"`
	FirstP50   float64   `json:"first_p50"`
	FirstP95   float64   `json:"first_p95"`
	FirstCurve []float64 `json:"first_curve,omitempty"` // at the shares of Curve
	Cuts       int64     `json:"cuts"`                  // WebSockets that ended by themselves
}

// Memory is the server's resident memory, in bytes.
type Memory struct {
	Before    int64   `json:"before"`
	After     int64   `json:"after"`
	PerClient float64 `json:"per_client"`
}

// Window is one measurement of one server.
type Window struct {
	Target     string  `json:"target"`
	Run        int     `json:"run"`
	Rate       float64 `json:"rate"`
	Seconds    float64 `json:"seconds"`
	Sent       uint64  `json:"sent"`
	Expected   uint64  `json:"expected"`
	Received   uint64  `json:"received"`
	Delivery   float64 `json:"delivery"`
	PerSecond  float64 `json:"per_second"` // delivered, until the last had come
	Reordered  uint64  `json:"reordered"`
	Duplicates uint64  `json:"duplicates"`
	Corrupt    uint64  `json:"corrupt"`
	Foreign    uint64  `json:"foreign"`

	// CPU of the server in µs for each delivered packet, and as a share of a core.
	CPUKnown bool    `json:"cpu_known"`
	User     float64 `json:"user"`
	System   float64 `json:"system"`
	Share    float64 `json:"share"`

	// One-way delay from the sender's send to the kernel's receipt for the listener.
	DelayP50   float64   `json:"delay_p50"`
	DelayP99   float64   `json:"delay_p99"`
	DelayMax   float64   `json:"delay_max"`
	DelayCurve []float64 `json:"delay_curve,omitempty"` // at the shares of Curve

	LoadShare float64 `json:"load_share"` // of a core that this side took
	LoadDrops uint64  `json:"load_drops"` // at the clients' sockets
	Slipped   uint64  `json:"slipped"`    // packets that this side was too slow to send
}

// Cost returns the CPU of a delivered packet in µs.
func (w *Window) Cost() float64 { return w.User + w.System }

// borne returns the share of the load that the server kept up with: what it only
// delivers after the load has ended comes too late for anybody.
func (w *Window) borne() float64 {
	if w.Expected == 0 {
		return 1
	}
	return min(w.Delivery, w.PerSecond*w.Seconds/float64(w.Expected))
}

// limited reports whether this side, not the server, was the limit.
func (w *Window) limited() bool {
	return w.LoadDrops > w.Expected/1000 || w.Slipped > w.Sent/1000 || w.LoadShare > 0.97
}

// Median is the middle of a target's runs. Ratio is to the first target's runs, of
// the same number each, in their cost: the first is what all are compared with.
type Median struct {
	Target   string  `json:"target"`
	Cost     float64 `json:"cost"`
	User     float64 `json:"user"`
	System   float64 `json:"system"`
	Share    float64 `json:"share"`
	Delivery float64 `json:"delivery"`
	DelayP50 float64 `json:"delay_p50"`
	DelayP99 float64 `json:"delay_p99"`
	Ratio    float64 `json:"ratio,omitempty"` // the first target's cost over this one's
}

// Ramp is the way to the most that a target delivers.
type Ramp struct {
	Target string   `json:"target"`
	Steps  []Window `json:"steps"`
	// Most is the highest rate of deliveries a second of all steps in which the server
	// kept up with 98 % of the load.
	Most float64 `json:"most"`
	Cost float64 `json:"cost"` // there
	End  string  `json:"end"`  // why it ended
}

// Curve are the shares that delays and joins are given at.
var Curve = []float64{0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// medians reduces the windows to one line for each target, in the targets' order.
func medians(windows []Window, targets []string) []Median {
	of := func(target string, f func(*Window) float64) (values []float64) {
		for i := range windows {
			if windows[i].Target == target {
				values = append(values, f(&windows[i]))
			}
		}
		return values
	}
	cost := func(w *Window) float64 { return w.Cost() }
	var out []Median
	for i, name := range targets {
		m := Median{
			Target:   name,
			Cost:     median(of(name, cost)),
			User:     median(of(name, func(w *Window) float64 { return w.User })),
			System:   median(of(name, func(w *Window) float64 { return w.System })),
			Share:    median(of(name, func(w *Window) float64 { return w.Share })),
			Delivery: median(of(name, func(w *Window) float64 { return w.Delivery })),
			DelayP50: median(of(name, func(w *Window) float64 { return w.DelayP50 })),
			DelayP99: median(of(name, func(w *Window) float64 { return w.DelayP99 })),
		}
		if i > 0 {
			var ratios []float64
			others := of(name, cost)
			for run, own := range of(targets[0], cost) {
				if run < len(others) && others[run] > 0 {
					ratios = append(ratios, own/others[run])
				}
			}
			m.Ratio = median(ratios)
		}
		out = append(out, m)
	}
	return out
}

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(out io.Writer) error {
	var b strings.Builder
	s := &r.Settings
	fmt.Fprintf(&b, "%d speakers in each of %d channels, %d listeners (%s), %.0f packets/s of %d bytes, talk %.2g, %s, %.0f s%s\n",
		s.Speakers, s.Channels, s.Listeners, s.Clients, s.Rate, s.Size, s.Talk, s.Phase, s.Seconds, s.path())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "server\trun\tdelivered/s\tdelivery\treordered\tbad\tCPU µs/packet\tuser\tsystem\tcore\tdelay p50 ms\tp99\tmax\tload core\t")
	for i := range r.Windows {
		writeRow(w, &r.Windows[i], fmt.Sprint(r.Windows[i].Run))
	}
	for i := range r.Ramps {
		ramp := &r.Ramps[i]
		for j := range ramp.Steps {
			writeRow(w, &ramp.Steps[j], fmt.Sprintf("@%.0f/s", ramp.Steps[j].Rate))
		}
	}
	_ = w.Flush() // strings.Builder takes everything
	for _, m := range r.Medians {
		fmt.Fprintf(&b, "median %s: %.2f µs/packet (%.2f user, %.2f system), %.2f%% delivered", m.Target, m.Cost, m.User, m.System, 100*m.Delivery)
		if m.Ratio > 0 {
			fmt.Fprintf(&b, "; %s costs %.2f × this", r.Medians[0].Target, m.Ratio)
		}
		b.WriteByte('\n')
	}
	for i := range r.Ramps {
		fmt.Fprintf(&b, "most of %s: %.0f packets/s at %.2f µs (%s)\n", r.Ramps[i].Target, r.Ramps[i].Most, r.Ramps[i].Cost, r.Ramps[i].End)
	}
	if j := r.Join; j != nil {
		fmt.Fprintf(&b, "join, %d at a time: session description p50 %.1f ms, p95 %.1f ms", s.Joins, j.ReadyP50, j.ReadyP95)
		if j.Heard > 0 {
			fmt.Fprintf(&b, "; first packet p50 %.1f ms, p95 %.1f ms (%d of %d)", j.FirstP50, j.FirstP95, j.Heard, j.Clients)
		}
		fmt.Fprintf(&b, "; %d WebSockets cut\n", j.Cuts)
	}
	if m := r.Memory; m != nil {
		fmt.Fprintf(&b, "memory: %.1f MiB before, %.1f MiB after, %.1f KiB for each client\n", float64(m.Before)/(1<<20), float64(m.After)/(1<<20), m.PerClient/(1<<10))
	}
	for _, w := range r.Workers {
		fmt.Fprintf(&b, "worker %d: %.0f peers, load %.2f, %.0f packets sent; relayed %.0f in, %.0f out\n",
			w.Worker, w.Peers, w.Load, w.Sent, w.RelayedIn, w.RelayedOut)
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", warning)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func writeRow(out io.Writer, w *Window, run string) {
	cost := "\t\t"
	if w.CPUKnown {
		cost = fmt.Sprintf("%.2f\t%.2f\t%.2f", w.Cost(), w.User, w.System)
	}
	_, _ = fmt.Fprintf(out, "%s\t%s\t%.0f\t%.2f%%\t%d\t%d\t%s\t%.1f%%\t%.3f\t%.3f\t%.2f\t%.0f%%\t\n",
		w.Target, run, w.PerSecond, 100*w.Delivery, w.Reordered, w.Duplicates+w.Corrupt+w.Foreign, cost,
		100*w.Share, w.DelayP50, w.DelayP99, w.DelayMax, 100*w.LoadShare)
}
