// Package sfu owns who hears whom on one media worker: peers, channels,
// producers, their speaking state, and the header that every forwarded packet
// leaves with. It is driven by posted commands and received packets and is
// drained of deliveries and events. It never touches keys, sockets or clocks:
// transports open packets before it and seal them after it.
package sfu

import "net/netip"

// PeerID names one client's media transport on a worker, or a relay. Signalling
// chooses it, never reuses it while the process lives, and never uses zero.
type PeerID uint64

// Flags is what signalling knows of a peer that changes what is forwarded.
type Flags uint8

// Peer flags.
const (
	// Muted drops what the peer sends: server mute, missing SPEAK, suppressed.
	Muted Flags = 1 << iota
	// Deafened forwards nothing to the peer: server deafen or self deafen.
	Deafened
	// Priority marks a priority speaker.
	Priority
)

// Command is one order to a worker; exactly one field is set. Commands are plain
// data: they can be logged, sent to another process, and replayed to a worker
// that lost its state, which then is the state they describe.
type Command struct {
	Add     *AddPeer     `cbor:"1,keyasint,omitempty"`
	Native  *SetNative   `cbor:"2,keyasint,omitempty"`
	Browser *SetBrowser  `cbor:"3,keyasint,omitempty"`
	Keys    *SetSRTPKeys `cbor:"4,keyasint,omitempty"`
	Update  *UpdatePeer  `cbor:"5,keyasint,omitempty"`
	Remove  *RemovePeer  `cbor:"6,keyasint,omitempty"`
	Relay   *AddRelay    `cbor:"7,keyasint,omitempty"`
	End     *EndSource   `cbor:"8,keyasint,omitempty"`
}

// AddPeer puts a peer into a channel. SSRC is what others hear it under and
// what a native client sends under: chosen by signalling, unique on the node,
// not reused for at least an hour, low two bits zero (the next three are kept
// for video, RTX and stream audio).
type AddPeer struct {
	Peer    PeerID `cbor:"1,keyasint"`
	Channel uint64 `cbor:"2,keyasint"`
	SSRC    uint32 `cbor:"3,keyasint"`
	Flags   Flags  `cbor:"4,keyasint"`
	// From is what a native client's media probably comes from, too; invalid: no idea.
	From netip.Addr `cbor:"5,keyasint"`
}

// SetNative gives a peer the native transport: an encryption mode of package
// proto and its 32-byte key.
type SetNative struct {
	Peer PeerID   `cbor:"1,keyasint"`
	Mode string   `cbor:"2,keyasint"`
	Key  [32]byte `cbor:"3,keyasint"`
}

// SetBrowser gives a peer the browser transport. Ufrags and passwords are ICE's
// (RFC 8445 §5.3); LocalUfrag is unique on the worker. Fingerprint is
// "<algorithm> <hex bytes with colons>" of the client's certificate. OpusPT and
// AudioLevelID are the client's numbers (AudioLevelID 0: not negotiated).
type SetBrowser struct {
	Peer         PeerID `cbor:"1,keyasint"`
	LocalUfrag   string `cbor:"2,keyasint"`
	LocalPwd     string `cbor:"3,keyasint"`
	RemoteUfrag  string `cbor:"4,keyasint"`
	Fingerprint  string `cbor:"5,keyasint"`
	OpusPT       uint8  `cbor:"6,keyasint"`
	AudioLevelID uint8  `cbor:"7,keyasint"`
}

// SetSRTPKeys gives a browser peer the keys that DTLS ended with, in a replay:
// the first time they come out of the worker itself, as Event.Keys.
type SetSRTPKeys struct {
	Peer    PeerID `cbor:"1,keyasint"`
	Profile uint16 `cbor:"2,keyasint"` // RFC 5764 §4.1.2 and RFC 7714 §14.2 number
	// Keying is client key, server key, client salt, server salt
	// (RFC 5764 §4.2).
	Keying []byte `cbor:"3,keyasint"`
}

// UpdatePeer changes a peer's flags.
type UpdatePeer struct {
	Peer  PeerID `cbor:"1,keyasint"`
	Flags Flags  `cbor:"2,keyasint"`
}

// RemovePeer ends a peer or a relay. Unknown peers are ignored.
type RemovePeer struct {
	Peer PeerID `cbor:"1,keyasint"`
}

// AddRelay joins a channel to its other half on another worker: each gets what is
// heard of the other's own peers. The other worker gets the same command with In and
// Out exchanged and this worker's address. Keys are for one life of both workers:
// nonces start at zero, so one that lost its state is not to be given them again.
type AddRelay struct {
	Peer    PeerID         `cbor:"1,keyasint"` // of the relay itself, like a peer's
	Channel uint64         `cbor:"2,keyasint"`
	Addr    netip.AddrPort `cbor:"3,keyasint"` // of the other worker's socket
	In      RelayKey       `cbor:"4,keyasint"` // of what comes from there
	Out     RelayKey       `cbor:"5,keyasint"` // of what goes there
}

// RelayKey is one direction of a relay: the SSRC that its packets are known by, chosen
// as a peer's is, and the 32-byte key of AES-256-GCM.
type RelayKey struct {
	SSRC uint32   `cbor:"1,keyasint"`
	Key  [32]byte `cbor:"2,keyasint"`
}

// EndSource says that a peer of a channel's other half, which others heard under SSRC,
// is gone for good. One that was never heard here is remembered for a while all the
// same, since its first packet may be under way.
type EndSource struct {
	Channel uint64 `cbor:"1,keyasint"`
	SSRC    uint32 `cbor:"2,keyasint"`
}

// Event is what a worker tells signalling; exactly one field is set.
type Event struct {
	Connected *PeerConnected `cbor:"1,keyasint,omitempty"`
	Speaking  *PeerSpeaking  `cbor:"2,keyasint,omitempty"`
	Lost      *PeerLost      `cbor:"3,keyasint,omitempty"`
	Keys      *SetSRTPKeys   `cbor:"4,keyasint,omitempty"`
	Quiet     *PeerQuiet     `cbor:"5,keyasint,omitempty"`
}

// Peer returns whom the event is about, or zero.
func (e *Event) Peer() PeerID {
	switch {
	case e.Connected != nil:
		return e.Connected.Peer
	case e.Speaking != nil:
		return e.Speaking.Peer
	case e.Lost != nil:
		return e.Lost.Peer
	case e.Keys != nil:
		return e.Keys.Peer
	case e.Quiet != nil:
		return e.Quiet.Peer
	}
	return 0
}

// PeerConnected says that the first packet of a peer decrypted: media, RTCP, or the
// end of its DTLS handshake. A native client that only listens may never cause it.
type PeerConnected struct {
	Peer PeerID `cbor:"1,keyasint"`
}

// PeerSpeaking says that a peer began or ended to speak. On comes within 100 ms of its
// first voice packet where somebody who hears it has not been told its SSRC, and up to
// 60 ms later elsewhere. Off comes about 300 ms after its last, or within 60 ms when it is
// muted, leaves its stream by BYE, or sends silence frames.
type PeerSpeaking struct {
	Peer PeerID `cbor:"1,keyasint"`
	On   bool   `cbor:"2,keyasint"`
}

// PeerQuiet says that nothing at all has come from a native peer for 20 s that had been
// sending keepalives. It is said again every 20 s for as long as that lasts. The client may
// be gone, or only its way through UDP.
type PeerQuiet struct {
	Peer PeerID `cbor:"1,keyasint"`
}

// LostReason says why a peer's transport ended.
type LostReason uint8

// Reasons.
const (
	// LostConsent is 30 s without a STUN check (RFC 7675) on a browser peer.
	LostConsent LostReason = 1 + iota
	// LostHandshake is a failed DTLS handshake or a wrong fingerprint.
	LostHandshake
	// LostClosed is a DTLS close_notify before the first media. Later ones are not
	// seen, since the worker keeps no DTLS state: consent ends then.
	LostClosed
	// LostState is a worker's process that ended and left nothing of the peer's keys
	// that could be trusted.
	LostState
)

// PeerLost says that a peer's transport is gone. The peer stays until removed.
type PeerLost struct {
	Peer   PeerID     `cbor:"1,keyasint"`
	Reason LostReason `cbor:"2,keyasint"`
}
