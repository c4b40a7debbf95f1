package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/yamux"
)

// accept serves the gateway's streams; to take one from yamux acknowledges it (section 3, "ACK").
func (t *tunnel) accept() {
	for {
		stream, err := t.session.AcceptStream()
		if err != nil {
			return
		}
		t.streams.Add(1)
		go func() {
			defer t.streams.Add(-1)
			t.visitor(stream)
		}()
	}
}

// visitor is section 5.
func (t *tunnel) visitor(stream *yamux.Stream) {
	defer t.client.streams.Add(-1)
	count := t.client.streams.Add(1)
	stream.SetReadDeadline(time.Now().Add(handshake))
	name, err := readHeader(stream)
	stream.SetReadDeadline(time.Time{})
	switch {
	case err != nil:
		t.reset(stream)
	case t.draining.Load():
		t.unreached(stream, "draining")
	case name != t.client.service:
		t.unreached(stream, "unknown_service")
	case count > streamsAtOnce:
		t.unreached(stream, "overloaded")
	default:
		target, err := net.DialTimeout("tcp", t.client.target, targetConnect)
		if err != nil {
			t.unreached(stream, unreachedCode(err))
			return
		}
		t.splice(stream, target.(*net.TCPConn))
	}
}

func unreachedCode(err error) string {
	var network net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.As(err, &network) && network.Timeout():
		return "timeout"
	}
	return "unreachable"
}

// unreached keeps below the messages that a gateway bears (section 4): a visitor past that is reset and no more.
func (t *tunnel) unreached(stream *yamux.Stream, code string) {
	if t.said.Add(1) < unreachedAtOnce {
		t.send(object{"type": "unreached", "stream": stream.StreamID(), "code": code})
	}
	t.reset(stream)
}

// reset sends the RST that yamux has no call for. To yamux the stream lives on until its StreamCloseTimeout; what
// it then still says about it is ignored over there (section 3, "Ends").
func (t *tunnel) reset(stream *yamux.Stream) {
	t.conn.reset(stream.StreamID())
	stream.Close()
}

// splice copies both ways, each with its own end. Any failure resets both sides.
func (t *tunnel) splice(stream *yamux.Stream, target *net.TCPConn) {
	defer target.Close()
	ends := make(chan error, 2)
	go func() {
		_, err := io.Copy(target, stream)
		if err == nil && t.session.IsClosed() {
			err = io.ErrUnexpectedEOF // yamux says EOF for a lost tunnel, which section 6 counts as a reset
		}
		if err == nil {
			err = target.CloseWrite()
		}
		ends <- err
	}()
	go func() {
		_, err := io.Copy(stream, target)
		if err == nil {
			err = stream.Close() // FIN: reading goes on
		}
		ends <- err
	}()
	for i := 0; i < 2; i++ {
		if <-ends != nil {
			t.reset(stream)
			target.SetLinger(0)
			return
		}
	}
}

var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// readHeader reads a PROXY header, version 2, and gives the service's name. Not a byte more is taken.
func readHeader(from io.Reader) (string, error) {
	wrong := errors.New("a wrong PROXY header")
	fixed := make([]byte, 16)
	if _, err := io.ReadFull(from, fixed); err != nil {
		return "", err
	}
	length := int(binary.BigEndian.Uint16(fixed[14:]))
	addresses, known := map[byte]int{0x00: 0, 0x11: 12, 0x21: 36}[fixed[13]]
	if !bytes.Equal(fixed[:12], proxySignature) || fixed[12] != 0x21 || !known || length+16 > proxyBytes {
		return "", wrong
	}
	rest := make([]byte, length)
	if _, err := io.ReadFull(from, rest); err != nil {
		return "", err
	}
	r := reader{rest: rest}
	r.take(addresses)
	seen := map[byte][]byte{}
	for len(r.rest) > 0 {
		kind := r.byte()
		value := r.take(int(binary.BigEndian.Uint16(r.take(2))))
		switch kind {
		case 0x01, 0x02, 0x05, 0xe0:
			if seen[kind] != nil {
				return "", wrong
			}
			seen[kind] = value
		}
	}
	if r.short || seen[0xe0] == nil || !utf8.Valid(seen[0xe0]) || !utf8.Valid(seen[0x02]) || len(seen[0x05]) > 128 {
		return "", wrong
	}
	return string(seen[0xe0]), nil
}

// frames is the connection below yamux, that notes when it heard something and can put a RST between two frames.
type frames struct {
	net.Conn
	heard  atomic.Int64 // when, in nanoseconds of the clock
	mu     sync.Mutex
	inBody bool
	resets []byte
}

func (f *frames) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if n > 0 {
		f.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// Write gets from yamux a header in one call and the payload in the next (section 3).
func (f *frames) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inBody = !f.inBody && len(b) == 12 && b[1] == 0 && binary.BigEndian.Uint32(b[8:]) > 0
	n, err := f.Conn.Write(b)
	if err == nil && !f.inBody && len(f.resets) > 0 {
		_, err = f.Conn.Write(f.resets)
		f.resets = nil
	}
	return n, err
}

// reset writes a window update of 0 with RST, now or after the payload that is under way.
func (f *frames) reset(id uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	frame := []byte{0, 1, 0, 8}
	frame = binary.BigEndian.AppendUint32(frame, id)
	f.resets = append(f.resets, binary.BigEndian.AppendUint32(frame, 0)...)
	if !f.inBody {
		f.Conn.Write(f.resets)
		f.resets = nil
	}
}
