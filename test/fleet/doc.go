// Package fleet tests the platform as several processes: the real binary in roles,
// on a PostgreSQL and a bus of the test's own, with native clients that talk while
// nodes are killed.
package fleet
