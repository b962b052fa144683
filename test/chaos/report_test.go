//go:build linux

package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"testing"
	"text/tabwriter"
	"time"
)

// write leaves the tables as text and JSON, and the plot, under a path without ending.
func (s *script) write(t testing.TB, path string) {
	t.Helper()
	for ending, fill := range map[string]func(io.Writer) error{
		".txt": s.table, ".html": s.html,
		".json": func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(map[string]any{"seed": *seed, "faults": s.rows, "nonces": s.w.nonces.packets.Load(), "twice": s.w.nonces.twice.Load()})
		},
	} {
		f, err := os.Create(path + ending)
		if err != nil {
			t.Fatal(err)
		}
		if err := fill(f); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func ms(d time.Duration) string { return fmt.Sprintf("%d", d.Milliseconds()) }

// verdict is what the table says of a bar.
func (r *row) verdict() string {
	switch {
	case r.NotRun != "":
		return "not run: " + r.NotRun
	case r.met():
		return "met"
	case r.metBut(r.Host):
		return "not met, by what the machine itself stood still"
	}
	return "NOT MET"
}

// table writes what each fault did at worst, and then what each client heard in each.
func (s *script) table(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "\tfault\twho\tnative ms\tlost\tbrowser ms\tlost\tmade up ms\tcontrol ms\tright after s\tbar\t")
	for i := range s.rows {
		r := &s.rows[i]
		native, browser, madeUp := [2]string{"-", "-"}, [2]string{"-", "-"}, "-"
		if len(r.Natives) > 0 {
			most := 0
			for _, c := range r.Natives {
				most = max(most, c.Lost)
			}
			native = [2]string{ms(r.Natives[0].Gap), fmt.Sprint(most)}
		}
		if b := r.Browser; b != nil {
			browser, madeUp = [2]string{ms(b.Gap), fmt.Sprint(b.Lost)}, ms(r.MadeUp)
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f\t%s\t%s\n", i+1, r.Says, r.Note,
			native[0], native[1], browser[0], browser[1], madeUp, ms(r.Host), (r.Settled - r.Healed).Seconds(), r.bar, r.verdict())
	}
	_, _ = fmt.Fprintln(w, "\nlongest time without audio of each client in ms (and packets lost), by fault")
	for i := range s.rows {
		_, _ = fmt.Fprintf(w, "\t%d", i+1)
	}
	_, _ = fmt.Fprintln(w)
	for _, client := range s.clients() {
		_, _ = fmt.Fprint(w, client)
		for i := range s.rows {
			_, _ = fmt.Fprintf(w, "\t%s", s.rows[i].of(client))
		}
		_, _ = fmt.Fprintln(w)
	}
	return w.Flush()
}

// clients are the names of all who hear, natives first.
func (s *script) clients() (names []string) {
	for _, g := range s.w.guilds {
		for _, p := range g.people {
			names = append(names, p.name)
		}
	}
	if s.w.visitor != nil {
		names = append(names, "browser")
	}
	return names
}

// of is a cell of the clients' table.
func (r *row) of(client string) string {
	all := r.Natives
	if r.Browser != nil {
		all = append(all[:len(all):len(all)], *r.Browser)
	}
	for _, c := range all {
		if c.Client == client {
			if c.Lost == 0 {
				return ms(c.Gap)
			}
			return fmt.Sprintf("%s (%d)", ms(c.Gap), c.Lost)
		}
	}
	return "-"
}
