// Package ledger owns the form of numbers that outlive a process: words in memory that
// it shares with another, which reads them after its death. A word is written by one
// store, before what it stands for is done, so that a process that is killed between
// any two instructions leaves all of them whole. A word that nobody wrote, or that was
// overwritten by something else, says so when it is read. Nothing here does I/O or
// knows what is counted.
package ledger

const (
	checkBits = 16
	// Max is the highest number that a Word holds.
	Max = 1<<(64-checkBits) - 1
	// spread makes each bit of a number change about half of its check.
	spread = 0x9E3779B97F4A7C15
	salt   = 0x5AC3 // so that zero in memory is no word
)

// Word is a number of 48 bits and a check on it. The zero value is blank.
type Word uint64

func check(v uint64) Word { return Word((v+1)*spread>>(64-checkBits)) ^ salt }

// Set stores a number. Bits above Max are cut off.
func (w *Word) Set(v uint64) {
	v &= Max
	*w = Word(v)<<checkBits | check(v)
}

// SetSigned stores a number between -2^47 and 2^47.
func (w *Word) SetSigned(v int64) { w.Set(uint64(v)) }

// Clear makes the word blank.
func (w *Word) Clear() { *w = 0 }

// Blank reports whether nothing was stored, or Clear was last.
func (w Word) Blank() bool { return w == 0 }

// Get returns the number, and false for a word that is blank or damaged.
func (w Word) Get() (v uint64, ok bool) {
	v = uint64(w >> checkBits)
	return v, w != 0 && w&(1<<checkBits-1) == check(v)
}

// Signed returns what SetSigned stored.
func (w Word) Signed() (v int64, ok bool) {
	_, ok = w.Get()
	return int64(w) >> checkBits, ok
}

// Valid reports whether Get would.
func (w Word) Valid() bool {
	_, ok := w.Get()
	return ok
}

// Table gives out records of a fixed number, and knows after a process's death which
// may have been in use. Its owner says which of those are, by Keep, before it takes
// any. One goroutine uses it.
type Table[T any] struct {
	records []T
	used    *Word // how many of the first may be in use
	free    []int
	damaged bool
}

// NewTable returns the table over records and the word that counts them, as they were
// left. Where they are damaged all of them may be in use.
func NewTable[T any](records []T, used *Word) *Table[T] {
	t := &Table[T]{records: records, used: used}
	if used.Blank() {
		used.Set(0)
	}
	if n, ok := used.Get(); !ok || n > uint64(len(records)) {
		t.damaged = true
		used.Set(uint64(len(records)))
	}
	return t
}

// Damaged reports whether it is unknown which records were in use.
func (t *Table[T]) Damaged() bool { return t.damaged }

// Left returns the records that may be in use by what the memory says.
func (t *Table[T]) Left() []T {
	n, _ := t.used.Get()
	return t.records[:n]
}

// Keep makes all records blank and free that keep is false for.
func (t *Table[T]) Keep(keep func(i int) bool) {
	var zero T
	t.free = t.free[:0]
	left := t.Left()
	for i := len(left) - 1; i >= 0; i-- {
		if !keep(i) {
			left[i] = zero
			t.free = append(t.free, i)
		}
	}
}

// Take returns a blank record and its index, and false when all are in use.
func (t *Table[T]) Take() (i int, r *T, ok bool) {
	if n := len(t.free); n > 0 {
		i = t.free[n-1]
		t.free = t.free[:n-1]
		return i, &t.records[i], true
	}
	i = len(t.Left())
	if i == len(t.records) {
		return 0, nil, false
	}
	t.used.Set(uint64(i) + 1)
	return i, &t.records[i], true
}

// Release makes a record blank and free.
func (t *Table[T]) Release(i int) {
	var zero T
	t.records[i] = zero
	t.free = append(t.free, i)
}
