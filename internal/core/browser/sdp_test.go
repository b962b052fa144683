package browser

import (
	"crypto/sha512"
	"net/netip"
	"strings"
	"testing"

	"github.com/pion/sdp/v3"
)

const testFingerprint = "71:20:4C:BE:C2:D0:B7:9B:73:5B:4B:29:7C:32:41:25:D8:D2:BC:66:74:D3:93:98:B3:0D:01:F7:67:19:01:13"

var testLines = []string{
	"a=extmap-allow-mixed",
	"a=ice-ufrag:9WZo",
	"a=ice-pwd:" + testPassword,
	"a=ice-options:trickle",
	"a=fingerprint:sha-256 " + testFingerprint,
	"a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
	"a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
	"a=extmap:4/sendrecv urn:ietf:params:rtp-hdrext:sdes:mid",
	"a=rtpmap:111 opus/48000/2",
	"a=rtpmap:96 VP8/90000",
	"a=rtpmap:97 rtx/90000",
}

func TestParseFragment(t *testing.T) {
	for _, separator := range []string{"\n", "\r\n"} {
		f, err := ParseFragment(strings.Join(testLines, separator))
		if err != nil {
			t.Fatal(err)
		}
		if f.Ufrag != "9WZo" || f.Password != testPassword || f.Opus != 111 || f.AudioLevel != 1 || f.Mid != 4 ||
			f.Fingerprint.String() != "sha-256 "+testFingerprint {
			t.Errorf("%+v", f)
		}
	}
}

func TestParseFragmentRefuses(t *testing.T) {
	for prefix, replacements := range map[string][]string{
		"a=ice-ufrag":   {"", "a=ice-ufrag:abc", "a=ice-ufrag:" + strings.Repeat("a", 257), "a=ice-ufrag:ab cd"},
		"a=ice-pwd":     {"", "a=ice-pwd:" + strings.Repeat("a", 21), "a=ice-pwd:" + strings.Repeat("ä", 22)},
		"a=fingerprint": {"", "a=fingerprint:sha-1 " + testFingerprint[:59], "a=fingerprint:sha-256 12:34", "a=fingerprint:sha-256 " + strings.Repeat("zz:", 32)},
		"a=rtpmap:111":  {"", "a=rtpmap:128 opus/48000/2", "a=rtpmap:111 opus/8000", "a=rtpmap:x opus/48000/2"},
	} {
		for _, replacement := range replacements {
			lines := make([]string, 0, len(testLines))
			for _, line := range testLines {
				if strings.HasPrefix(line, prefix) {
					line = replacement
				}
				lines = append(lines, line)
			}
			if f, err := ParseFragment(strings.Join(lines, "\n")); err == nil {
				t.Errorf("%q was taken: %+v", replacement, f)
			}
		}
	}
	if _, err := ParseFragment(strings.Join(testLines, "\n") + strings.Repeat("\n", MaxFragment)); err == nil {
		t.Error("a fragment that is too long was taken")
	}
}

func TestExtensionIDs(t *testing.T) {
	for id, want := range map[string]uint8{"14": 14, "15": 0, "0": 0, "16": 0, "-1": 0, "": 0, "3/recvonly": 3} {
		var f Fragment
		f.parseExtension(id + " " + uriAudioLevel)
		if f.AudioLevel != want {
			t.Errorf("id %q became %d", id, f.AudioLevel)
		}
	}
}

func TestFingerprint(t *testing.T) {
	certificate := []byte("a certificate")
	f := FingerprintOf(certificate)
	if !f.Matches(certificate) || f.Matches(certificate[1:]) {
		t.Error("a fingerprint does not tell certificates apart")
	}
	read, ok := ParseFingerprint(f.String())
	if !ok || !read.Matches(certificate) {
		t.Errorf("%s is read as %+v", f, read)
	}
	long := sha512.Sum512(certificate)
	mid := sha512.Sum384(certificate)
	if !(Fingerprint{"sha-512", long[:]}).Matches(certificate) || !(Fingerprint{"sha-384", mid[:]}).Matches(certificate) {
		t.Error("a longer hash does not match")
	}
	if (Fingerprint{"md5", f.Sum}).Matches(certificate) || (Fingerprint{}).Matches(certificate) {
		t.Error("an unknown hash matches")
	}
}

func TestAnswer(t *testing.T) {
	answer := Answer(AnswerParams{
		Addresses:   []netip.AddrPort{netip.MustParseAddrPort("203.0.113.9:50001"), netip.MustParseAddrPort("[2001:db8::7]:50001")},
		Ufrag:       "srvU",
		Password:    testPassword,
		Fingerprint: FingerprintOf(nil),
	})
	const want = `m=audio 50001 ICE/SDP
a=fingerprint:sha-256 E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55
c=IN IP4 203.0.113.9
a=rtcp:50001
a=ice-ufrag:srvU
a=ice-pwd:vcfFowC3gQI1KHu0Fm5ZTXum
a=candidate:1 1 UDP 2130706431 203.0.113.9 50001 typ host
a=candidate:2 1 UDP 2130706175 2001:db8::7 50001 typ host
`
	if answer != want {
		t.Errorf("answer:\n%s", answer)
	}
	if offered := strings.Join(testLines, "\n"); len(answer)+len(offered) > 1200 {
		t.Errorf("both fragments take %d bytes", len(answer)+len(offered))
	}
	// Under a session header, a general parser finds one media section.
	var parsed sdp.SessionDescription
	err := parsed.UnmarshalString("v=0\r\no=- 1 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" +
		strings.Replace(answer, "ICE/SDP", "UDP/TLS/RTP/SAVPF 111", 1))
	if err != nil || len(parsed.MediaDescriptions) != 1 {
		t.Fatalf("%+v, %v", parsed, err)
	}
	if pwd, ok := parsed.MediaDescriptions[0].Attribute("ice-pwd"); !ok || pwd != testPassword {
		t.Errorf("password %q", pwd)
	}
	only6 := Answer(AnswerParams{Addresses: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::7]:50001")}})
	if !strings.Contains(only6, "c=IN IP6 2001:db8::7\n") {
		t.Errorf("answer:\n%s", only6)
	}
}

func FuzzParseFragment(f *testing.F) {
	f.Add(strings.Join(testLines, "\n"))
	f.Add("a=ice-ufrag\na=fingerprint:sha-256\na=extmap:1\na=rtpmap:111")
	f.Fuzz(func(t *testing.T, s string) {
		fragment, err := ParseFragment(s)
		if err != nil {
			return
		}
		if len(s) > MaxFragment || len(fragment.Ufrag) < 4 || len(fragment.Password) < 22 || fragment.Opus > 127 ||
			fragment.AudioLevel > 14 || fragment.Mid > 14 || len(fragment.Fingerprint.Sum) < 32 {
			t.Fatalf("%+v", fragment)
		}
	})
}
