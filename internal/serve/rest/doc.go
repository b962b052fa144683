// Package rest owns the HTTP API: the routes of Discord's public API that bots
// and clients call, sign-up and log-in, and the operator's admin API. It
// authenticates, limits and checks the shape of a request, then asks the guild
// that owns the answer or the store. It never holds a guild's state, and never
// logs or sends a client's address.
package rest
