// Package chaos runs a fleet of real processes, each node in a network namespace of
// its own, with native clients that say numbered packets and a Chromium, and kills,
// stops, cuts and floods what it is made of, in an order, at times and with victims
// that a seed decides. After each fault it waits until all is quiet and checks what
// must hold whatever happens: nobody is lost or doubled, a guild has one owner, no
// nonce is used twice with a key, and every gateway, every client, the database and
// the voice nodes say the same. What it measures beside that is how long each client
// was without audio.
//
// go test runs a short form. make chaos SEED=7 runs all of it and leaves tables and
// a plot behind.
package chaos
