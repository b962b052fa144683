package run

import "sync/atomic"

// Mailbox is a bounded queue from many senders to the one goroutine that owns
// the receiving state. Its overflow policy is to refuse: Post reports false and
// counts, and the sender decides what that means (close the client, drop the
// report), because only the sender knows what the message was worth.
type Mailbox[T any] struct {
	ch      chan T
	refused atomic.Uint64
}

// NewMailbox returns a mailbox that holds at most size messages.
func NewMailbox[T any](size int) *Mailbox[T] {
	return &Mailbox[T]{ch: make(chan T, size)}
}

// Post queues m without ever blocking and reports whether there was room.
func (b *Mailbox[T]) Post(m T) bool {
	select {
	case b.ch <- m:
		return true
	default:
		b.refused.Add(1)
		return false
	}
}

// Receive returns the channel that the owner ranges over or selects on. It is
// never closed: the owner ends with its group's context.
func (b *Mailbox[T]) Receive() <-chan T { return b.ch }

// Refused returns how many messages found the mailbox full.
func (b *Mailbox[T]) Refused() uint64 { return b.refused.Load() }

// Len returns how many messages wait now.
func (b *Mailbox[T]) Len() int { return len(b.ch) }
