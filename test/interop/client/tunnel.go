package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/url"
	"os"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/yamux"
)

// tunnel is one connection to a gateway.
type tunnel struct {
	client   *client
	address  string
	conn     *frames
	session  *yamux.Session
	control  *yamux.Stream
	streams  atomic.Int64
	draining atomic.Bool  // our own drain was sent
	asked    uint32       // seq of the last register
	said     atomic.Int64 // messages of unreached since the last tick
}

// Messages of section 4, in both directions; fields that this client has no use for are left out.
type (
	object  map[string]any
	service struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	result struct {
		Name  string   `json:"name"`
		URLs  []string `json:"urls"`
		Error *struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	welcome struct {
		Protocol  int      `json:"protocol"`
		Name      string   `json:"name"`
		Keepalive float64  `json:"keepalive"`
		Services  []result `json:"services"`
	}
	results struct {
		Services []result `json:"services"`
	}
	drain struct {
		DeadlineMs float64 `json:"deadlineMs"`
	}
	reject struct {
		Code       string  `json:"code"`
		Message    string  `json:"message"`
		Final      bool    `json:"final"`
		RetryAfter float64 `json:"retryAfter"`
	}
)

func (r *reject) Error() string { return fmt.Sprintf("rejected: %q %.200q", r.Code, r.Message) }

func (r *reject) Is(target error) bool { return target == errFinal && r.Final }

func (r *reject) pause() time.Duration { return clamped(r.RetryAfter, 0, 300, time.Second) }

// clamped is section 7: a peer's number, its integer part, within bounds.
func clamped(n, least, most float64, unit time.Duration) time.Duration {
	return time.Duration(math.Max(least, math.Min(most, math.Trunc(n)))) * unit
}

// serve returns when the tunnel is over, or the gateway drains it and the next one is due.
func (c *client) serve(ctx context.Context, conn *tls.Conn, address string) error {
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false // its interval is fixed; welcome's is not
	config.ConnectionWriteTimeout = time.Minute
	config.LogOutput = io.Discard
	t := &tunnel{client: c, address: address, conn: &frames{Conn: conn}}
	t.conn.heard.Store(time.Now().UnixNano())
	var err error
	if t.session, err = yamux.Client(t.conn, config); err != nil {
		return err
	}
	if t.control, err = t.session.OpenStream(); err != nil {
		return err
	}
	hello := object{
		"type": "hello", "protocol": object{"min": 1, "max": 1}, "agent": "blindgate-interop/1",
		"instance": c.instance, "process": c.process, "services": []service{{c.service, "tcp"}},
	} // without streamWindow: a plain yamux peer (section 3, "Windows")
	if !c.enrolled.Load() {
		hello["enroll"] = object{"secret": base64.RawURLEncoding.EncodeToString(c.invite.secret[:])}
	}
	t.send(hello)

	messages, failed := make(chan []byte), make(chan error, 1)
	go func() { failed <- t.receive(messages) }()
	defer func(rest <-chan []byte) { // stream 1 is read without delay, also after a drain
		go func() {
			for range rest {
			}
		}()
	}(messages)
	limit, silence := time.After(handshake), keepalive
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			t.leave(drainFor, true)
			return nil
		case err := <-failed:
			t.session.Close()
			return fmt.Errorf("the tunnel ended: %w", err)
		case <-limit:
			t.session.Close()
			return errors.New("no welcome in time")
		case <-tick.C:
			t.said.Store(0)
			if !t.lives(silence) {
				t.session.Close()
				return errors.New("the gateway fell silent")
			}
		case bytes, open := <-messages:
			if !open { // failed says why
				messages = nil
				break
			}
			message, err := decode(bytes)
			switch m := message.(type) {
			case *welcome:
				if m.Protocol != 1 {
					err = errors.New("welcome with another protocol")
					break
				}
				limit, silence = nil, clamped(m.Keepalive, 1, 10, time.Second)
				c.enrolled.Store(true)
				go t.accept()
				t.learn(m.Services)
			case *results: // registered, withdrawn
				t.learn(m.Services)
			case *drain: // section 6; a client that cares waits for the other tunnel before it ends this one
				go t.leave(clamped(m.DeadlineMs, 0, 600_000, time.Millisecond), false)
				return errors.New("the gateway drains")
			case *reject:
				err = m
			}
			if err != nil {
				t.session.Close()
				return err
			}
		}
	}
}

// send writes one message. yamux keeps the bytes of one Write together, so many may send.
func (t *tunnel) send(message object) {
	bytes, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	framed := binary.BigEndian.AppendUint32(nil, uint32(len(bytes)))
	if _, err := t.control.Write(append(framed, bytes...)); err != nil {
		t.session.Close()
	}
}

// receive passes messages on until the stream ends.
func (t *tunnel) receive(messages chan<- []byte) error {
	defer close(messages)
	for {
		var length uint32
		if err := binary.Read(t.control, binary.BigEndian, &length); err != nil {
			return err
		}
		if length < 1 || length > controlBytes {
			return errors.New("a message of a wrong length")
		}
		bytes := make([]byte, length)
		if _, err := io.ReadFull(t.control, bytes); err != nil {
			return err
		}
		messages <- bytes
	}
}

// decode answers nil for messages to be skipped.
func decode(bytes []byte) (any, error) {
	var kind struct{ Type *string }
	if !utf8.Valid(bytes) {
		return nil, errors.New("a message that is not UTF-8")
	}
	if err := json.Unmarshal(bytes, &kind); err != nil || kind.Type == nil {
		return nil, errors.New("a message without a type")
	}
	var message any
	switch *kind.Type {
	case "welcome":
		message = &welcome{}
	case "registered", "withdrawn":
		message = &results{}
	case "drain":
		message = &drain{}
	case "reject":
		message = &reject{}
	default:
		return nil, nil
	}
	return message, json.Unmarshal(bytes, message)
}

// learn prints where visitors reach the service, once; a refused one is asked for again later (section 8).
func (t *tunnel) learn(services []result) {
	for _, r := range services {
		if r.Name != t.client.service {
			continue
		}
		if r.Error != nil {
			log.Printf("refused: %q %.200q", r.Error.Code, r.Error.Message)
			t.asked++
			again := object{"type": "register", "seq": t.asked, "services": []service{{r.Name, "tcp"}}}
			time.AfterFunc(refusedRetry, func() { t.send(again) })
			continue
		}
		urls := []string{}
		for _, text := range r.URLs { // section 7: ours is the host that was dialled, the gateway's the port
			if u, err := url.Parse(text); err == nil && u.Scheme == "tcp" {
				host, _, _ := net.SplitHostPort(t.address)
				urls = append(urls, "tcp://"+net.JoinHostPort(host, u.Port()))
			}
		}
		if !t.client.printed.Swap(true) {
			json.NewEncoder(os.Stdout).Encode(object{"name": r.Name, "urls": urls})
		}
	}
}

// lives pings after a silence, and is false after twice that (section 6, "Liveness").
func (t *tunnel) lives(silence time.Duration) bool {
	quiet := time.Since(time.Unix(0, t.conn.heard.Load()))
	if quiet > silence {
		go t.session.Ping()
	}
	return quiet < 2*silence
}

// leave waits for the streams that run, then closes in order (section 6).
func (t *tunnel) leave(deadline time.Duration, ours bool) {
	if ours {
		t.draining.Store(true)
		t.send(object{"type": "drain", "deadlineMs": deadline.Milliseconds()})
		t.session.Ping() // what was under way has come by then, as good as surely
	}
	for end := time.Now().Add(deadline); t.streams.Load() > 0 && time.Now().Before(end) && !t.session.IsClosed(); {
		time.Sleep(20 * time.Millisecond)
	}
	t.session.GoAway() // yamux's Close sends none
	select {           // whose receiver closes too; to close first could cost it the GoAway
	case <-t.session.CloseChan():
	case <-time.After(orderlyClose):
	}
	t.session.Close()
}
