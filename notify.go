package failover

import (
	"context"
	"time"
)

// NOTIFY is repeated as long as somebody does not take it: first after retell, and then less and less.
const (
	retell    = 10 * time.Second
	maxRetell = 10 * time.Minute
)

// The transfer plugin tells the secondaries of a zone one after the other, and waits for each that does not answer for
// seconds. So that the others hear of the next change meanwhile there may be several rounds of a zone; and in all so
// many that those of a start do not use up sockets.
const (
	maxRounds    = 3
	maxAllRounds = 64
)

var roundsUnderWay = make(chan struct{}, maxAllRounds)

// notices are what the secondaries of a zone have been told. They are guarded by the lock of its history.
type notices struct {
	told    uint32 // the serial that NOTIFY was last sent for
	rounds  int    // under way
	failing bool   // somebody does not take it, which the log says
}

// tell sends NOTIFY if that has not been done for a serial yet, until it is taken or there is something newer to tell.
func (t *transfers) tell(ctx context.Context, o *outgoing, serial uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told == serial || o.rounds >= maxRounds { // at the end of a round it is looked at again
		return
	}
	o.told = serial
	go func() {
		for wait := retell; !t.round(ctx, o, serial); wait = min(2*wait, maxRetell) {
			if !pause(ctx, wait) {
				o.mu.Lock()
				if o.told == serial {
					o.told = 0 // the next generation takes it up
				}
				o.mu.Unlock()
				return
			}
		}
	}()
}

// round sends NOTIFY once to all, and says whether that is enough.
func (t *transfers) round(ctx context.Context, o *outgoing, serial uint32) bool {
	select {
	case roundsUnderWay <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	o.mu.Lock()
	newer := o.told != serial
	if !newer {
		o.rounds++
	}
	o.mu.Unlock()
	if newer {
		<-roundsUnderWay
		return true
	}
	err := t.notify(o.apex)
	<-roundsUnderWay

	o.mu.Lock()
	defer o.mu.Unlock()
	o.rounds--
	t.poke() // there may be a newer one to tell
	if failing := err != nil; failing != o.failing {
		o.failing = failing
		if failing {
			log.Warningf("%s: %v", o.apex, err)
		} else {
			log.Infof("%s: NOTIFY is taken again", o.apex)
		}
	}
	return err == nil || o.told != serial
}
