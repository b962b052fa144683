package ledger

import (
	"testing"

	"pgregory.net/rapid"
)

func TestWordHoldsNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Uint64Range(0, Max).Draw(t, "v")
		var w Word
		w.Set(v)
		if got, ok := w.Get(); !ok || got != v || w.Blank() {
			t.Fatalf("%d came back as %d, %v", v, got, ok)
		}
		s := rapid.Int64Range(-1<<47, 1<<47-1).Draw(t, "s")
		w.SetSigned(s)
		if got, ok := w.Signed(); !ok || got != s {
			t.Fatalf("%d came back as %d, %v", s, got, ok)
		}
		damaged := w ^ 1<<rapid.UintRange(0, 63).Draw(t, "bit")
		if _, ok := damaged.Get(); ok {
			t.Fatalf("%#x is %#x with one bit changed, and is taken for whole", damaged, w)
		}
	})
}

func TestBlankWord(t *testing.T) {
	var w Word
	if _, ok := w.Get(); ok || !w.Blank() {
		t.Error("zero memory is a number")
	}
	w.Set(0)
	if _, ok := w.Get(); !ok || w.Blank() {
		t.Error("the number zero is blank")
	}
	w.Clear()
	if !w.Blank() {
		t.Error("a cleared word is not blank")
	}
}

func TestTable(t *testing.T) {
	records := make([]int, 4)
	var used Word
	table := NewTable(records, &used)
	for i := range records {
		got, r, ok := table.Take()
		if !ok || got != i {
			t.Fatalf("took %d, %v; want %d", got, ok, i)
		}
		*r = i + 1
	}
	if _, _, ok := table.Take(); ok {
		t.Error("a full table gives a record")
	}
	table.Release(2)
	if records[2] != 0 {
		t.Error("a released record is not blank")
	}

	// Another process looks at what was left.
	table = NewTable(records, &used)
	if left := table.Left(); len(left) != 4 || table.Damaged() {
		t.Fatalf("%d records left, damaged %v", len(left), table.Damaged())
	}
	table.Keep(func(i int) bool { return records[i] == 4 })
	for want := range 3 {
		if i, r, ok := table.Take(); !ok || i != want || *r != 0 {
			t.Errorf("took %d with %v, %v; want %d", i, *r, ok, want)
		}
	}
	if _, _, ok := table.Take(); ok || records[3] != 4 {
		t.Error("a kept record was given out")
	}

	used ^= 1 << 20
	if table = NewTable(records, &used); !table.Damaged() || len(table.Left()) != len(records) {
		t.Error("a damaged count is not noticed")
	}
}
