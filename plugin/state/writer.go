package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Logger is the log of a writer.
type Logger interface {
	Infof(format string, v ...any)
	Warningf(format string, v ...any)
}

// Writer writes one file, in a goroutine of its own.
type Writer struct {
	log     Logger
	File    string
	refresh time.Duration // at the latest, so that its age says when this process was there last
	collect func() *Document

	dirty chan struct{}
	end   chan struct{}
	ended chan struct{}
	lock  *os.File // nil: another process has it

	mu      sync.Mutex    // guards the rest
	trouble string        // as last said in the log
	since   time.Time     // of trouble
	begun   uint64        // counts the writes
	over    chan struct{} // closed when the next write has ended; see confirm
	done    uint64        // counts the writes that have ended
}

func NewWriter(file string, refresh time.Duration, collect func() *Document, log Logger) *Writer {
	w := &Writer{log: log, File: file, refresh: refresh, collect: collect,
		dirty: make(chan struct{}, 1), end: make(chan struct{}), ended: make(chan struct{}), over: make(chan struct{})}
	w.Changed()
	go w.run()
	return w
}

// Failure returns why the file is not written, and since when. The text is empty if it is written.
func (w *Writer) Failure() (text string, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.trouble == "" {
		return "", time.Time{}
	}
	return fmt.Sprintf("the state file %s cannot be written: %s", w.File, w.trouble), w.since
}

func (w *Writer) Changed() {
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

// Confirm waits until a write has ended that began after the call, and reports whether it has within a time.
func (w *Writer) Confirm(within time.Duration) bool {
	w.mu.Lock()
	number := w.begun + 1
	w.mu.Unlock()
	w.Changed()
	limit := time.NewTimer(within)
	defer limit.Stop()
	for {
		w.mu.Lock()
		done, over := w.done, w.over
		w.mu.Unlock()
		if done >= number {
			return true
		}
		select {
		case <-over:
		case <-w.ended:
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.done >= number
		case <-limit.C:
			return false
		}
	}
}

// Stop writes once more and waits for that.
func (w *Writer) Stop() {
	close(w.end)
	<-w.ended
}

// writerShare is what part of one processor's time a writer may take where everything changes all the time.
const writerShare = 10

// run writes as soon as there is something new: a process that is killed may be so right after.
func (w *Writer) run() {
	defer close(w.ended)
	defer w.unlock()
	defer w.write() // what has not been written yet
	refresh := time.NewTicker(w.refresh)
	defer refresh.Stop()
	for {
		select {
		case <-w.dirty:
		case <-refresh.C:
		case <-w.end:
			return
		}
		rest := time.NewTimer(max(w.write()*(writerShare-1), time.Millisecond))
		select {
		case <-rest.C:
		case <-w.end:
			rest.Stop()
			return
		}
	}
}

// write writes the file, and says so when that begins to fail, and when it works again. It returns how long it has had
// to work for it: to wait for the disk costs nothing.
func (w *Writer) write() (work time.Duration) {
	w.mu.Lock()
	w.begun++
	w.mu.Unlock()
	began := time.Now()
	data, err := json.Marshal(w.collect())
	work = time.Since(began)
	if err == nil {
		err = w.put(data)
	}
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	w.mu.Lock()
	before := w.trouble
	if w.trouble = trouble; before == "" {
		w.since = time.Now()
	}
	w.done++
	close(w.over)
	w.over = make(chan struct{})
	w.mu.Unlock()
	if trouble == before {
		return work
	}
	if trouble == "" {
		w.log.Infof("State: %s is written again", w.File)
	} else {
		w.log.Warningf("State: %s cannot be written: %s", w.File, trouble)
	}
	return work
}

// put puts a whole new file in the place of the one before.
func (w *Writer) put(data []byte) error {
	if w.lock == nil {
		lock, err := Lock(w.File + ".lock")
		if err != nil {
			return err
		}
		w.lock = lock
	}
	next, err := os.OpenFile(w.File+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = next.Write(data)
	if err := errors.Join(err, next.Sync(), next.Close()); err != nil {
		return err
	}
	return os.Rename(w.File+".new", w.File)
}

// unlock lets another process write the file.
func (w *Writer) unlock() {
	if w.lock != nil {
		w.lock.Close()
	}
}
