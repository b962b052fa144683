//go:build linux

package chaos

import (
	"fmt"
	"html/template"
	"io"
	"time"
)

// Measures of the plot, in units of its viewBox.
const (
	plotWidth = 1200.0
	laneLeft  = 70.0
	laneTall  = 14.0
	lanesTop  = 46.0
	leastWide = 1.5 // of a mark, to be seen at all
)

type laneMark struct {
	X, Width float64
	Title    string
}

type lane struct {
	Name  string
	Y     float64
	TextY float64
	Marks []laneMark
}

type span struct {
	X, Struck, Settling float64
	Number              int
	Title               string
}

// html writes the report as one page that needs nothing else: for each client a lane
// with the times in which it heard nothing, under the times of the faults.
func (s *script) html(to io.Writer) error {
	end := max(s.w.now(), time.Second)
	x := func(at time.Duration) float64 { return laneLeft + float64(at)/float64(end)*(plotWidth-laneLeft) }
	var lanes []lane
	add := func(name string, marks []gapMark) {
		l := lane{Name: name, Y: lanesTop + float64(len(lanes))*laneTall}
		l.TextY = l.Y + laneTall - 4
		for _, m := range marks {
			l.Marks = append(l.Marks, laneMark{x(m.From), max(leastWide, x(m.To)-x(m.From)), fmt.Sprintf("%s: %d ms from %.1f s on", name, (m.To - m.From).Milliseconds(), m.From.Seconds())})
		}
		lanes = append(lanes, l)
	}
	for _, g := range s.w.guilds {
		for _, p := range g.people {
			add(p.name, p.ears.marks())
		}
	}
	if s.w.visitor != nil {
		add("browser", s.page)
	}
	add("control", s.control.ears.marks())
	var spans []span
	for i, r := range s.rows {
		if r.NotRun == "" {
			spans = append(spans, span{x(r.Began), max(leastWide, x(r.Healed)-x(r.Began)), x(r.Settled) - x(r.Healed), i + 1, r.Says + " (" + r.Note + ")"})
		}
	}
	return plotPage.Execute(to, map[string]any{
		"Seed": *seed, "Lanes": lanes, "Spans": spans, "Rows": s.rows, "Clients": s.clients(), "Width": plotWidth,
		"Height": lanesTop + float64(len(lanes))*laneTall + 24, "Top": lanesTop, "Tall": float64(len(lanes)) * laneTall,
		"Bar": laneTall - 4, "End": fmt.Sprintf("%.0f s", end.Seconds()), "EndY": lanesTop + float64(len(lanes))*laneTall + 16,
		"Sealed": s.w.nonces.packets.Load(), "Keys": s.w.nonces.keys.Load(), "Twice": s.w.nonces.twice.Load(),
	})
}

var plotPage = template.Must(template.New("page").Funcs(template.FuncMap{
	"ms": ms, "inc": func(i int) int { return i + 1 }, "cell": func(r row, client string) string { return r.of(client) },
	"verdict": func(r row) string { return r.verdict() }, "bar": func(r row) string { return r.bar.String() },
	"add":     func(a, b float64) float64 { return a + b },
	"seconds": func(r row) string { return fmt.Sprintf("%.1f", (r.Settled - r.Healed).Seconds()) },
}).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Hubbub in chaos</title>
<style>
:root{color-scheme:light dark;--bg:#fbfaf8;--fg:#23201c;--dim:#6b645b;--line:#ddd7ce;--gap:#c53030;--fault:#b7791f;--after:#2b6cb0}
@media (prefers-color-scheme:dark){:root{--bg:#1b1917;--fg:#ece7df;--dim:#a49b8f;--line:#3a3631;--gap:#fc8181;--fault:#e8a33d;--after:#63b3ed}}
body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;max-width:84rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .3rem}.dim,figcaption{color:var(--dim)}figure{margin:1.5rem 0}svg{width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:var(--dim)}.lane{stroke:var(--line)}.gap{fill:var(--gap)}.fault{fill:var(--fault);opacity:.28}.after{fill:var(--after);opacity:.16}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:1.5rem 0}
th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}.l{text-align:left}th{color:var(--dim);font-weight:500}
</style></head><body>
<h1>Hubbub in chaos</h1>
<p class="dim">Seed {{.Seed}}. {{.Sealed}} sealed packets under {{.Keys}} keys were received; {{.Twice}} nonces came twice.</p>
<figure><figcaption>Who heard nothing, and when</figcaption>
<svg viewBox="0 0 {{.Width}} {{.Height}}" role="img" aria-label="For each client the times without audio, under the times of the faults">
{{range .Spans}}<g><title>{{.Title}}</title><rect class="fault" x="{{.X}}" y="{{$.Top}}" width="{{.Struck}}" height="{{$.Tall}}"/><rect class="after" x="{{add .X .Struck}}" y="{{$.Top}}" width="{{.Settling}}" height="{{$.Tall}}"/><text x="{{.X}}" y="34">{{.Number}}</text></g>
{{end}}{{range .Lanes}}<line class="lane" x1="70" x2="{{$.Width}}" y1="{{.Y}}" y2="{{.Y}}"/><text x="0" y="{{.TextY}}">{{.Name}}</text>{{$y := add .Y 2}}{{range .Marks}}<rect class="gap" x="{{.X}}" y="{{$y}}" width="{{.Width}}" height="{{$.Bar}}"><title>{{.Title}}</title></rect>{{end}}
{{end}}<text x="70" y="{{.EndY}}">0</text><text x="{{.Width}}" y="{{.EndY}}" text-anchor="end">{{.End}}</text></svg></figure>
<p class="dim">Shaded: while a fault lasted, and until all was right again. Marks: more than 60 ms without audio, in the browser more than 150. The control is a process that sends back what it gets: what it misses, this machine was too busy for.</p>
<div class="scroll"><table><thead><tr><th></th><th class="l">fault</th><th class="l">who</th><th>native ms</th><th>browser ms</th><th>made up ms</th><th>control ms</th><th>right after s</th><th class="l">bar</th><th class="l"></th></tr></thead><tbody>
{{range $i, $r := .Rows}}<tr><td>{{inc $i}}</td><td class="l">{{.Says}}</td><td class="l">{{.Note}}</td><td>{{with .Natives}}{{ms (index . 0).Gap}}{{end}}</td><td>{{with .Browser}}{{ms .Gap}}{{end}}</td><td>{{ms .MadeUp}}</td><td>{{ms .Host}}</td><td>{{seconds .}}</td><td class="l">{{bar .}}</td><td class="l">{{verdict .}}</td></tr>
{{end}}</tbody></table></div>
<h2>Each client: longest time without audio in ms, and packets lost</h2>
<div class="scroll"><table><thead><tr><th class="l">client</th>{{range $i, $r := .Rows}}<th>{{inc $i}}</th>{{end}}</tr></thead><tbody>
{{range $c := .Clients}}<tr><td class="l">{{$c}}</td>{{range $.Rows}}<td>{{cell . $c}}</td>{{end}}</tr>
{{end}}</tbody></table></div>
</body></html>
`))
