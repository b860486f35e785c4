// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// stream is the messages of one protocol in one direction on eth0 of the host.
type stream struct {
	direction string
	protocol  string
}

var streams = []stream{
	{"ingress", "tcp"}, {"egress", "tcp"}, {"ingress", "udp"}, {"egress", "udp"},
}

// collector receives the copies.
type collector struct {
	socket net.PacketConn
	mu     sync.Mutex
	// how many copies of each round arrived
	arrived map[stream]map[uint64]int
	flushes map[string]bool
}

// startCollector makes a collector that listens in a network namespace until the test ends.
func startCollector(t testing.TB, netns, address string) *collector {
	it := &collector{arrived: make(map[stream]map[uint64]int), flushes: make(map[string]bool)}
	for _, stream := range streams {
		it.arrived[stream] = make(map[uint64]int)
	}
	within(t, netns, func() (err error) {
		it.socket, err = net.ListenPacket("udp", address)
		return err
	})
	if err := it.socket.(*net.UDPConn).SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { it.socket.Close() })
	go it.listen()
	return it
}

func (it *collector) listen() {
	datagram := make([]byte, 1<<16)
	for {
		n, _, err := it.socket.ReadFrom(datagram)
		if err != nil {
			return
		}
		it.mu.Lock()
		if stream, round, ok := copied(datagram[:n]); ok {
			it.arrived[stream][round]++
		} else {
			it.flushes[string(datagram[:n])] = true
		}
		it.mu.Unlock()
	}
}

// flush sends a datagram of its own and waits until it arrives, so that all earlier ones have
// arrived too.
func (it *collector) flush(t testing.TB) {
	t.Helper()
	sender, err := net.Dial("udp", it.socket.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	last := "flush from " + sender.LocalAddr().String()
	if _, err := sender.Write([]byte(last)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		it.mu.Lock()
		defer it.mu.Unlock()
		if !it.flushes[last] {
			return "the collector receives no datagram"
		}
		delete(it.flushes, last)
		return ""
	})
}

// wrong describes copies of these rounds that are missing, duplicated or unexpected.
func (it *collector) wrong(first, last uint64, wanted []stream) string {
	it.mu.Lock()
	defer it.mu.Unlock()
	for _, stream := range streams {
		times := 0
		for _, it := range wanted {
			if it == stream {
				times = 1
			}
		}
		for round := first; round <= last; round++ {
			if arrived := it.arrived[stream][round]; arrived != times {
				return fmt.Sprintf("of round %d of %d to %d, %s %s, %d copies arrived instead of %d",
					round, first, last, stream.direction, stream.protocol, arrived, times)
			}
		}
	}
	return ""
}

// copied returns the message in a GUE or VXLAN datagram.
func copied(datagram []byte) (it stream, round uint64, ok bool) {
	const (
		gueIPv4        = 0x00040000
		vxlanWithVNI   = 0x08000000
		ethernetLength = 14
	)
	if len(datagram) < 22+20 {
		return it, 0, false
	}
	packet := datagram
	switch binary.BigEndian.Uint32(datagram) {
	case gueIPv4:
		packet = datagram[4:]
	case vxlanWithVNI:
		packet = datagram[8+ethernetLength:]
	}
	header := int(packet[0]&0xf) * 4
	total := int(binary.BigEndian.Uint16(packet[2:]))
	if packet[0]>>4 != 4 || total > len(packet) || header+20 > total {
		return it, 0, false
	}
	source := netip.AddrFrom4([4]byte(packet[12:16])).String()
	destination := netip.AddrFrom4([4]byte(packet[16:20])).String()
	switch {
	case source == peerAddress && destination == hostAddress:
		it.direction = "ingress"
	case source == hostAddress && destination == peerAddress:
		it.direction = "egress"
	default:
		return it, 0, false
	}
	inner := packet[header:total]
	switch packet[9] {
	case unix.IPPROTO_TCP:
		it.protocol = "tcp"
		length := min(int(inner[12]>>4)*4, len(inner))
		round, ok = roundOf(inner[length:])
	case unix.IPPROTO_UDP:
		it.protocol = "udp"
		round, ok = roundOf(inner[8:])
	}
	return it, round, ok
}
