package load

const (
	climbFactor  = 1.3
	climbHalving = 3
)

// climb raises the rate until too little arrives, then halves the way back, and
// returns every step. A step that fails gets a second chance: another process's
// burst is not the server's limit. There are 24 steps at most.
func climb(start float64, step func(rate float64) (Window, error)) (Ramp, error) {
	var r Ramp
	once := func(rate float64) (Window, error) {
		w, err := step(rate)
		if err == nil {
			r.Steps = append(r.Steps, w)
			if w.borne() >= rampFloor && w.PerSecond > r.Most {
				r.Most, r.Cost = w.PerSecond, w.Cost()
			}
		}
		return w, err
	}
	try := func(rate float64) (Window, error) {
		w, err := once(rate)
		if err == nil && w.borne() < rampFloor {
			w, err = once(rate)
		}
		return w, err
	}
	good, bad := 0.0, 0.0
	for rate := start; bad == 0; rate = min(rate*climbFactor, rampRate) {
		w, err := try(rate)
		switch {
		case err != nil:
			return r, err
		case w.borne() < rampFloor:
			bad = rate
			r.End = "delivery fell under 98 %"
			if w.limited() {
				r.End = "the load was the limit"
			}
		case rate >= rampRate:
			r.End = "speakers may send no faster: take more of them"
			return r, nil
		default:
			good = rate
		}
	}
	for range climbHalving {
		if good == 0 {
			break // not even the first step was good
		}
		rate := (good + bad) / 2
		w, err := try(rate)
		if err != nil {
			return r, err
		}
		if w.borne() >= rampFloor {
			good = rate
		} else {
			bad = rate
		}
	}
	return r, nil
}
