// Package proto is what crosses Hubbub's public wires: ids, opcodes, payloads,
// close codes, permissions and error codes, with the names of Discord's public
// API. It imports only the standard library, holds no behaviour beyond encoding
// and arithmetic, and is for servers, clients and tests alike.
package proto
