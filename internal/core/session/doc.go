// Package session owns one client's gateway session: what it says before it has
// one (Gate), what it says afterwards and what it is owed (Session), and the parts
// that the voice gateway's sessions share, the resume Buffer and the Limiter.
// Time and frames are arguments and every answer is a Step; it never touches a
// socket, a clock or another session.
package session
