// Package test holds the end-to-end tests: browsers, third-party libraries and
// the Go SDK on a whole server, judged by what is heard. See the files' names for
// what each of them is about.
//
// Each test runs on a server in this process, and with -args -fleet on a fleet of nine
// processes in two regions, where its clients come to different gateways and its
// channels are on different voice nodes. What only one form can show is where the other
// cannot have it: the data directory and first start of one server, and its media
// process, in test/ops; the deaths of a fleet's nodes in test/fleet.
package test
