package rest

import "hubbub.dev/hubbub/proto"

// listRegions answers with the regions that have a voice server now, or the
// server's own while there is none. Its own is the optimal one.
func (s *Service) listRegions(*request) (reply, error) {
	var names []string
	if s.cfg.Regions != nil {
		names = s.cfg.Regions()
	}
	if len(names) == 0 {
		names = []string{s.cfg.Region}
	}
	list := make([]proto.VoiceRegion, len(names))
	for i, name := range names {
		list[i] = proto.VoiceRegion{ID: name, Name: name, Optimal: name == s.cfg.Region}
	}
	return ok(list)
}
