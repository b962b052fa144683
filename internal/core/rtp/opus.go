package rtp

// IsSilence reports whether an Opus payload carries no sound: the frame F8 FF FE
// with which Discord's clients end a talk spurt, or a DTX frame, which is a table
// of contents byte and at most one more (RFC 6716 section 3.1, RFC 7587 section 3.1.3).
func IsSilence(payload []byte) bool {
	return len(payload) <= 2 ||
		len(payload) == 3 && payload[0] == 0xF8 && payload[1] == 0xFF && payload[2] == 0xFE
}
