// Package sim runs a whole fleet in one goroutine on a virtual clock: gateways, guild
// nodes and voice nodes, their bus, their database and their clients, under schedules
// of faults that follow from a seed. A seed gives the same run to the last message, so
// a failure is replayed by its seed.
//
// What decides is the real code: fleet.Table, ring, guild.Guild, session.Session and
// signalling.Shard. What internal/serve does around it, with goroutines and sockets, is
// written here once more as events of one queue: discovery.go mirrors serve/discovery,
// guilds.go serve/guilds, gateway.go serve/gateway, voice.go serve/voice, database.go
// edge/store, and bus.go what edge/bus promises. A change to one belongs into the other.
//
// The package does no I/O and reads no clock. It never says how fast anything is.
package sim
