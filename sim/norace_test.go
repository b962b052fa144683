//go:build !race

package sim

// scheduled is how many schedules a test plays.
const scheduled = 250
