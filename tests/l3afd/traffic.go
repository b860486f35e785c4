// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// the host's ports that the peer sends to
const (
	tcpPort = 8080
	udpPort = 9000
)

// messageLength is the length of each payload, over TCP and UDP.
const messageLength = 64

// message is the payload of a round.
func message(round uint64) []byte {
	text := bytes.Repeat([]byte("mirrored"), messageLength/8)
	binary.BigEndian.PutUint64(text[8:], round)
	return text
}

// roundOf returns the round of a payload.
func roundOf(text []byte) (uint64, bool) {
	if len(text) != messageLength {
		return 0, false
	}
	round := binary.BigEndian.Uint64(text[8:])
	return round, bytes.Equal(text, message(round))
}

// traffic is production. In each round, the peer sends one message over TCP and one over UDP, and
// gets each back. A lost message fails the test.
type traffic struct {
	begun   atomic.Uint64 // the last round begun
	done    atomic.Uint64 // the last round that has ended
	failure atomic.Pointer[error]
}

// startTraffic runs rounds until the test ends.
func startTraffic(t testing.TB) *traffic {
	stream, err := net.Listen("tcp", fmt.Sprintf("%s:%d", hostAddress, tcpPort))
	if err != nil {
		t.Fatal(err)
	}
	datagrams, err := net.ListenPacket("udp", fmt.Sprintf("%s:%d", hostAddress, udpPort))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if it, err := stream.Accept(); err == nil {
			_, _ = io.Copy(it, it)
		}
	}()
	go echo(datagrams)

	var clients [2]net.Conn
	within(t, "peer", func() (err error) {
		if clients[0], err = net.Dial("tcp", stream.Addr().String()); err != nil {
			return err
		}
		clients[1], err = net.Dial("udp", datagrams.LocalAddr().String())
		return err
	})

	it := &traffic{}
	var stopped atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for !stopped.Load() {
			if err := it.round(clients[:]); err != nil {
				it.failure.Store(&err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		stopped.Store(true)
		<-ended
		for _, it := range []io.Closer{clients[0], clients[1], stream, datagrams} {
			it.Close()
		}
		it.check(t)
		t.Logf("%d rounds of production, none lost", it.done.Load())
	})
	return it
}

func (it *traffic) round(clients []net.Conn) error {
	round := it.begun.Add(1)
	for _, client := range clients {
		protocol := client.LocalAddr().Network()
		if _, err := client.Write(message(round)); err != nil {
			return fmt.Errorf("round %d, %s: %w", round, protocol, err)
		}
		answer := make([]byte, messageLength)
		_ = client.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(client, answer); err != nil {
			return fmt.Errorf("round %d, %s: no answer: %w", round, protocol, err)
		}
		if !bytes.Equal(answer, message(round)) {
			return fmt.Errorf("round %d, %s: another answer: %q", round, protocol, answer)
		}
	}
	it.done.Store(round)
	return nil
}

// check fails the test if production has lost anything.
func (it *traffic) check(t testing.TB) {
	t.Helper()
	if failure := it.failure.Load(); failure != nil {
		t.Fatalf("production: %v", *failure)
	}
}

// next is the first round that has not begun.
func (it *traffic) next() uint64 {
	return it.begun.Load() + 1
}

// wait waits for the end of this many rounds from now on, and returns the last one.
func (it *traffic) wait(t testing.TB, rounds uint64) uint64 {
	t.Helper()
	last := it.next() + rounds - 1
	eventually(t, func() string {
		it.check(t)
		if done := it.done.Load(); done < last {
			return fmt.Sprintf("round %d is not over: the last one is %d", last, done)
		}
		return ""
	})
	return last
}

func echo(datagrams net.PacketConn) {
	text := make([]byte, messageLength)
	for {
		n, from, err := datagrams.ReadFrom(text)
		if err != nil {
			return
		}
		_, _ = datagrams.WriteTo(text[:n], from)
	}
}
