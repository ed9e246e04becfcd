package monitor

import "time"

// queue is a heap of checks by the time at which they are due. It is not container/heap: the times stand beside the
// checks, so that to compare two of a hundred thousand does not fetch either of them.
type queue []slot

// slot is a check in the queue.
type slot struct {
	due   time.Duration // the next probe, or the end of patience with the one under way
	check *Check
}

// add puts a check in.
func (q *queue) add(c *Check, due time.Duration) {
	*q = append(*q, slot{})
	q.up(len(*q)-1, slot{due, c})
}

// move changes the time of a check.
func (q *queue) move(c *Check, due time.Duration) {
	q.settle(int(c.index), slot{due, c})
}

// remove takes a check out.
func (q *queue) remove(c *Check) {
	last := len(*q) - 1
	moved := (*q)[last]
	(*q)[last] = slot{}
	*q = (*q)[:last]
	if moved.check != c {
		q.settle(int(c.index), moved)
	}
}

// settle puts s where it belongs, from i upwards or downwards.
func (q *queue) settle(i int, s slot) {
	if i > 0 && s.due < (*q)[(i-1)/2].due {
		q.up(i, s)
		return
	}
	q.down(i, s)
}

func (q *queue) up(i int, s slot) {
	for parent := (i - 1) / 2; i > 0 && s.due < (*q)[parent].due; i, parent = parent, (parent-1)/2 {
		q.put(i, (*q)[parent])
	}
	q.put(i, s)
}

func (q *queue) down(i int, s slot) {
	for {
		child := 2*i + 1
		if child+1 < len(*q) && (*q)[child+1].due < (*q)[child].due {
			child++
		}
		if child >= len(*q) || s.due <= (*q)[child].due {
			break
		}
		q.put(i, (*q)[child])
		i = child
	}
	q.put(i, s)
}

func (q *queue) put(i int, s slot) {
	(*q)[i] = s
	s.check.index = int32(i) // #nosec G115 -- there is no memory for more
}
