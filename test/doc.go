// Package test holds the end-to-end tests: browsers, third-party libraries and
// the Go SDK on a whole server, judged by what is heard. See the files' names for
// what each of them is about.
package test
