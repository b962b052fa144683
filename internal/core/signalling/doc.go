// Package signalling owns the voice gateway's protocol (version 1 to 9) and the
// voice sessions of the channels that are at home on one media worker: who is in a
// channel under which SSRC, what they are told of each other, and what the workers and
// the guild are told of them. It is driven by clients' frames, worker events, guild commands
// and ticks, and drained of outputs. It never reads a clock, touches a socket or
// waits for anybody.
//
// # The life of a session
//
//	Identify ─► identified ─Select Protocol─► present ─┬─ End, clean close ─► gone
//	                │                            ▲     │
//	                └── cut ◄─ socket lost ──────┴─────┘
//	                     └─ Resume, or after the resume window ─► gone
//
// Only a guild's End, a newer Identify of the same member, a clean close (1000 or
// 1001), a dead transport and the deadlines below end a session. A connection
// that is closed for what it sent, or for missed heartbeats, is a cut like any
// other: the session stays resumable and its media goes on.
//
// # Where peers are
//
// Placement names the worker of each peer: the channel's home, or another one of the
// node once the channel has many. The shard has every two workers that have peers of a
// channel relay it to one another, from before the first peer of the second until the
// last one of either has left.
//
// # Numbered events
//
// From version 8 on, payloads that a resume replays carry seq. The numbers and
// the replay buffer belong to the channel, not to the session, so that an event
// for hundreds of members is encoded once and the same bytes are queued for and
// kept for all of them. A client sees rising numbers with gaps.
//
// # What is told of others
//
// A newcomer is told, after its Session Description, of everybody present in one
// Clients Connect, and in one Speaking each, which maps their SSRC, of those who
// have said that they speak or have been heard. Of those who only listen there is
// no SSRC to know. The others are told of the newcomer with a Clients Connect, and
// of its SSRC when it first has something to say. Whenever it begins or ends to speak
// after that, browsers are told, native clients that asked for it (SpeakingEvents), and
// those that have just entered, which are also told again, a few times, of those who speak
// all the while; others see it by the packets. Client Flags and Client Platform
// are sent only for members whose client announced them (with the same two
// opcodes), so that a join stays at about 1,000 bytes for all others.
//
// In a crowd newcomers gather for some milliseconds, at most two seconds, and are
// told of in one payload (session.Pace). Whatever else is told of a newcomer, that
// it is heard or gone, waits for no round: the newcomers are told of first.
package signalling
