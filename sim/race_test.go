//go:build race

package sim

// scheduled is how many schedules a test plays; the race detector takes its time.
const scheduled = 60
