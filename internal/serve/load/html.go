package load

import (
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
)

// WriteHTML writes the report as one page that needs nothing else, for light and
// for dark screens.
func (r *Report) WriteHTML(w io.Writer) error {
	return page.Execute(w, struct {
		*Report
		Plots []template.HTML
	}{r, r.plots()})
}

// plots draws what there is to see.
func (r *Report) plots() (out []template.HTML) {
	known := slices.ContainsFunc(r.Windows, func(w Window) bool { return w.CPUKnown && w.Received > 0 })
	if known {
		out = append(out, costBars(r.Medians))
	}
	share := axis{Name: "share of the packets", Max: 1, Format: "%.0f%%", Scale: 100}
	millis := axis{Name: "ms", Format: "%.3g", Scale: 1, Log: true}
	delay := chart{Title: "One-way delay", X: share, Y: millis}
	for i := range r.Windows {
		if win := &r.Windows[i]; win.Run == 1 && len(win.DelayCurve) == len(Curve) {
			delay.add(win.Target, Curve, win.DelayCurve)
		}
	}
	if r.Join != nil && len(r.Join.FirstCurve) == len(Curve) {
		join := chart{Title: "Join: op 4 to the first packet", X: share, Y: millis}
		join.X.Name = "share of the listeners"
		join.add("listeners", Curve, r.Join.FirstCurve)
		out = append(out, join.draw())
	}
	cost := chart{Title: "CPU of a delivered packet as the load rises", X: axis{Name: "delivered packets/s", Format: "%.0f", Scale: 1}, Y: axis{Name: "µs", Format: "%.3g", Scale: 1}}
	delivery := chart{Title: "Delivered in time as the load rises", X: axis{Name: "packets/s that should arrive", Format: "%.0f", Scale: 1}, Y: axis{Name: "% delivered", Format: "%.3g", Scale: 100}}
	for i := range r.Ramps {
		steps := slices.Clone(r.Ramps[i].Steps)
		slices.SortFunc(steps, func(a, b Window) int { return int(a.Rate - b.Rate) })
		var due, got, took, borne []float64
		for j := range steps {
			due = append(due, float64(steps[j].Expected)/steps[j].Seconds)
			got, took, borne = append(got, steps[j].PerSecond), append(took, steps[j].Cost()), append(borne, steps[j].borne())
		}
		cost.add(r.Ramps[i].Target, got, took)
		delivery.add(r.Ramps[i].Target, due, borne)
	}
	for _, c := range []*chart{&delay, &cost, &delivery} {
		if len(c.Lines) > 0 && (known || c != &cost) {
			out = append(out, c.draw())
		}
	}
	return out
}

// Measures of a plot, in units of its viewBox.
const (
	plotWidth, plotHeight = 640.0, 300.0
	plotLeft, plotRight   = 64.0, 16.0
	plotTop, plotBottom   = 16.0, 44.0
	gridLines             = 4
	barHeight, barGap     = 26.0, 14.0
	barLabel              = 110.0
	colours               = 6
	leastLog              = 1e-3 // the least value that a logarithmic axis shows
)

type axis struct {
	Name     string
	Min, Max float64
	Format   string
	Scale    float64 // of the values in their labels
	Log      bool
}

type chart struct {
	Title string
	X, Y  axis
	Lines []chartLine
}

type chartLine struct {
	Name   string
	Colour int
	Points string
	x, y   []float64
}

func (c *chart) add(name string, x, y []float64) {
	c.Lines = append(c.Lines, chartLine{Name: name, Colour: len(c.Lines) % colours, x: x, y: y})
	for i := range x {
		c.X.Max, c.Y.Max = max(c.X.Max, x[i]), max(c.Y.Max, y[i])
		if c.Y.Log && (c.Y.Min == 0 || y[i] < c.Y.Min) {
			c.Y.Min = y[i]
		}
	}
}

// tickMark is a grid line with its label.
type tickMark struct {
	At     float64
	Label  string
	Anchor string
}

// round makes the axis end at numbers that people count in.
func (a *axis) round() {
	if a.Log {
		a.Min, a.Max = math.Floor(math.Log10(max(a.Min, leastLog))), math.Ceil(math.Log10(max(a.Max, 10*leastLog)))
		return
	}
	step := math.Pow(10, math.Floor(math.Log10(max(a.Max, math.SmallestNonzeroFloat32))))
	for _, nice := range []float64{1, 2, 4, 6, 8, 10} {
		if nice*step >= a.Max*(1-1e-9) {
			a.Max = nice * step
			return
		}
	}
}

// ticks returns the grid of an axis that is drawn between two places.
func (a *axis) ticks(from, to float64) (out []tickMark) {
	lines := gridLines
	if a.Log {
		lines = int(a.Max - a.Min)
	}
	for i := range lines + 1 {
		v := a.Min + float64(i)/float64(lines)*(a.Max-a.Min)
		t := tickMark{At: from + float64(i)/float64(lines)*(to-from), Anchor: "mid"}
		if i == lines {
			t.Anchor = "end" // a long number would leave the picture
		}
		if a.Log {
			v = math.Pow(10, v)
		}
		t.Label = fmt.Sprintf(a.Format, a.Scale*v)
		out = append(out, t)
	}
	return out
}

func (a *axis) place(v, from, to float64) float64 {
	if a.Log {
		v = math.Log10(max(v, leastLog))
	}
	return from + (v-a.Min)/(a.Max-a.Min)*(to-from)
}

func (c *chart) draw() template.HTML {
	c.X.round()
	c.Y.round()
	left, right, top, bottom := plotLeft, plotWidth-plotRight, plotTop, plotHeight-plotBottom
	for i := range c.Lines {
		l := &c.Lines[i]
		for j := range l.x {
			l.Points += fmt.Sprintf("%.1f,%.1f ", c.X.place(l.x[j], left, right), c.Y.place(l.y[j], bottom, top))
		}
	}
	return render(plot, map[string]any{
		"Chart": c, "XTicks": c.X.ticks(left, right), "YTicks": c.Y.ticks(bottom, top),
		"Width": plotWidth, "Height": plotHeight, "Left": left, "Right": right, "Top": top, "Bottom": bottom,
		"LabelX": left - 8, "LabelY": bottom + 18, "NameY": plotHeight - 6,
	})
}

// bar is one target's cost.
type bar struct {
	Name                         string
	Y, TextY, User, System, EndX float64
	SystemX                      float64
	Label                        string
}

func costBars(medians []Median) template.HTML {
	most := 0.0
	for i := range medians {
		most = max(most, medians[i].Cost)
	}
	var bars []bar
	width := plotWidth - barLabel - 90
	for i := range medians {
		m := &medians[i]
		b := bar{Name: m.Target, Y: float64(i)*(barHeight+barGap) + barGap, Label: fmt.Sprintf("%.2f µs", m.Cost)}
		b.TextY = b.Y + barHeight*0.68
		if most > 0 {
			b.User, b.System = m.User/most*width, m.System/most*width
		}
		b.SystemX = barLabel + b.User
		b.EndX = b.SystemX + b.System + 8
		bars = append(bars, b)
	}
	return render(barPlot, map[string]any{
		"Bars": bars, "Width": plotWidth, "Height": float64(len(bars))*(barHeight+barGap) + barGap,
		"Left": barLabel, "LabelX": barLabel - 10, "BarHeight": barHeight,
	})
}

// render fails only for a mistake in a template.
func render(t *template.Template, data any) template.HTML {
	var b htmlBuilder
	if err := t.Execute(&b, data); err != nil {
		panic("load: " + err.Error())
	}
	return template.HTML(b)
}

type htmlBuilder []byte

// Write appends.
func (b *htmlBuilder) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

var functions = template.FuncMap{
	"percent": func(share float64) string { return fmt.Sprintf("%.2f%%", 100*share) },
	"fixed":   func(v float64) string { return fmt.Sprintf("%.2f", v) },
	"fine":    func(v float64) string { return fmt.Sprintf("%.3f", v) },
	"whole":   func(v float64) string { return fmt.Sprintf("%.0f", v) },
	"mib":     func(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) },
	"kib":     func(n float64) string { return fmt.Sprintf("%.1f KiB", n/(1<<10)) },
	"sum":     func(a, b, c uint64) uint64 { return a + b + c },
}

var plot = template.Must(template.New("plot").Parse(`<figure><figcaption>{{.Chart.Title}}</figcaption>
<svg viewBox="0 0 {{.Width}} {{.Height}}" role="img" aria-label="{{.Chart.Title}}">
{{range .YTicks}}<line class="grid" x1="{{$.Left}}" x2="{{$.Right}}" y1="{{.At}}" y2="{{.At}}"/><text class="end" x="{{$.LabelX}}" y="{{.At}}" dy="4">{{.Label}}</text>
{{end}}{{range .XTicks}}<text class="{{.Anchor}}" x="{{.At}}" y="{{$.LabelY}}">{{.Label}}</text>
{{end}}<text class="end" x="{{.Right}}" y="{{.NameY}}">{{.Chart.X.Name}}</text><text x="4" y="{{.NameY}}">{{.Chart.Y.Name}}</text>
{{range .Chart.Lines}}<polyline class="line c{{.Colour}}" points="{{.Points}}"/>
{{end}}</svg><p class="legend">{{range .Chart.Lines}}<span class="key c{{.Colour}}"></span>{{.Name}} {{end}}</p></figure>`))

var barPlot = template.Must(template.New("bars").Parse(`<figure><figcaption>Server CPU of a delivered packet (median)</figcaption>
<svg viewBox="0 0 {{.Width}} {{.Height}}" role="img" aria-label="Server CPU of a delivered packet">
{{range .Bars}}<text class="end" x="{{$.LabelX}}" y="{{.TextY}}">{{.Name}}</text>
<rect class="user" x="{{$.Left}}" y="{{.Y}}" width="{{.User}}" height="{{$.BarHeight}}"/><rect class="system" x="{{.SystemX}}" y="{{.Y}}" width="{{.System}}" height="{{$.BarHeight}}"/>
<text x="{{.EndX}}" y="{{.TextY}}">{{.Label}}</text>
{{end}}</svg><p class="legend"><span class="key user"></span>user <span class="key system"></span>system</p></figure>`))

var page = template.Must(template.New("page").Funcs(functions).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Hubbub under load</title>
<style>
:root{color-scheme:light dark;--bg:#fbfaf8;--fg:#23201c;--dim:#6b645b;--line:#ddd7ce;--c0:#b7791f;--c1:#2b6cb0;--c2:#2f855a;--c3:#b83280;--c4:#6b46c1;--c5:#c53030}
@media (prefers-color-scheme:dark){:root{--bg:#1b1917;--fg:#ece7df;--dim:#a49b8f;--line:#3a3631;--c0:#e8a33d;--c1:#63b3ed;--c2:#68d391;--c3:#f687b3;--c4:#b794f4;--c5:#fc8181}}
body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .3rem}p{margin:.3rem 0}.dim,figcaption{color:var(--dim)}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(28rem,100%),1fr));gap:1.5rem;margin:1.5rem 0}
figure{margin:0}svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--dim)}
.end{text-anchor:end}.mid{text-anchor:middle}.grid{stroke:var(--line)}.line{fill:none;stroke:currentColor;stroke-width:2}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}.c5{color:var(--c5)}
.key{display:inline-block;width:.8rem;height:.8rem;background:currentColor;margin:0 .35rem 0 .8rem;border-radius:2px;vertical-align:-1px}
.user{color:var(--c1);fill:var(--c1)}.system{color:var(--c0);fill:var(--c0)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}th:first-child,td:first-child{text-align:left}th{color:var(--dim);font-weight:500}
</style></head><body>
<h1>Hubbub under load</h1>
<p>{{with .Settings}}{{.Speakers}} speakers in each of {{.Channels}} channels, {{.Listeners}} listeners ({{.Clients}}), {{.Rate}} packets/s of {{.Size}} bytes, talk {{.Talk}}, {{.Phase}}, {{.Seconds}} s{{with .Path}}, over the {{.}}{{end}}{{end}}</p>
<p class="dim">Hubbub {{.Version}}, {{.At}}, {{with .Host}}{{.CPU}}, {{.Cores}} cores, kernel {{.Kernel}}{{if .Pinned}}, server on core 0, load on core 1{{end}}{{end}}</p>
{{range .Warnings}}<p><strong>Warning:</strong> {{.}}</p>{{end}}
<div class="plots">{{range .Plots}}{{.}}{{end}}</div>
<div class="scroll"><table><thead><tr><th>server</th><th>run</th><th>delivered/s</th><th>delivery</th><th>reordered</th><th>bad</th><th>CPU µs/packet</th><th>user</th><th>system</th><th>core</th><th>delay p50 ms</th><th>p99</th></tr></thead><tbody>
{{range .Windows}}{{template "row" .}}{{end}}{{range .Ramps}}{{range .Steps}}{{template "row" .}}{{end}}{{end}}</tbody></table></div>
{{range .Medians}}{{if .Ratio}}<p>{{(index $.Medians 0).Target}} costs {{fixed .Ratio}} × {{.Target}}</p>{{end}}{{end}}
{{range .Ramps}}<p>Most of {{.Target}}: {{whole .Most}} packets/s at {{fixed .Cost}} µs ({{.End}})</p>{{end}}
{{with .Join}}<p>Join: session description p50 {{fixed .ReadyP50}} ms, p95 {{fixed .ReadyP95}} ms{{if .Heard}}; first packet p50 {{fixed .FirstP50}} ms, p95 {{fixed .FirstP95}} ms ({{.Heard}} of {{.Clients}}){{end}}; {{.Cuts}} WebSockets cut</p>{{end}}
{{with .Memory}}<p>Memory of the server: {{mib .Before}} before, {{mib .After}} after, {{kib .PerClient}} for each client</p>{{end}}
</body></html>
{{define "row"}}<tr><td>{{.Target}}</td><td>{{if .Run}}{{.Run}}{{else}}@{{whole .Rate}}/s{{end}}</td><td>{{whole .PerSecond}}</td><td>{{percent .Delivery}}</td><td>{{.Reordered}}</td><td>{{sum .Duplicates .Corrupt .Foreign}}</td>{{if .CPUKnown}}<td>{{fixed .Cost}}</td><td>{{fixed .User}}</td><td>{{fixed .System}}</td><td>{{percent .Share}}</td>{{else}}<td></td><td></td><td></td><td></td>{{end}}<td>{{fine .DelayP50}}</td><td>{{fine .DelayP99}}</td></tr>
{{end}}`))
