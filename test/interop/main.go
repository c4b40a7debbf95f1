// The other end for the interop test: hashicorp/yamux over one TCP connection, in either role.
//
//	interop -connect HOST:PORT -role client|server [-open N -bytes B] [-close-timeout MS]
//
// It serves each stream that the test opens by the stream's first byte:
//
//	e  echo until EOF, then close
//	n  count until EOF, answer with the number in decimal, close; on a reset print "reset"
//	c  close at once and read nothing more
//	p  ping the session, answer "pong", close
//	g  send a GoAway, answer "gone", close
//
// With -open it also opens N streams at once, writes B bytes to each, closes for writing, and expects the
// same bytes back and EOF; then it prints "opened ok".
package main

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

func main() {
	connect := flag.String("connect", "", "address of the test")
	role := flag.String("role", "server", "yamux role")
	open := flag.Int("open", 0, "streams to open")
	size := flag.Int("bytes", 0, "bytes for each")
	closeTimeout := flag.Int("close-timeout", 0, "milliseconds until a stream closed on one side is reset")
	flag.Parse()

	conn, err := net.Dial("tcp", *connect)
	check(err)
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.LogOutput = os.Stderr
	if *closeTimeout > 0 {
		config.StreamCloseTimeout = time.Duration(*closeTimeout) * time.Millisecond
	}
	start := yamux.Server
	if *role == "client" {
		start = yamux.Client
	}
	session, err := start(conn, config)
	check(err)

	if *open > 0 {
		go func() {
			openAll(session, *open, *size)
			fmt.Println("opened ok")
		}()
	}
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			fmt.Println("session over")
			return
		}
		go serve(session, stream)
	}
}

func serve(session *yamux.Session, stream *yamux.Stream) {
	command := make([]byte, 1)
	if _, err := io.ReadFull(stream, command); err != nil {
		stream.Close()
		return
	}
	switch command[0] {
	case 'e':
		io.Copy(stream, stream)
	case 'n':
		n, err := io.Copy(io.Discard, stream)
		if err == yamux.ErrConnectionReset {
			fmt.Println("reset")
			return
		}
		stream.Write([]byte(strconv.FormatInt(n, 10)))
	case 'p':
		_, err := session.Ping()
		check(err)
		stream.Write([]byte("pong"))
	case 'g':
		check(session.GoAway())
		stream.Write([]byte("gone"))
	}
	stream.Close()
}

func openAll(session *yamux.Session, count, size int) {
	var wait sync.WaitGroup
	for i := 0; i < count; i++ {
		wait.Add(1)
		go func(seed int64) {
			defer wait.Done()
			stream, err := session.OpenStream()
			check(err)
			sent := make([]byte, size)
			rand.New(rand.NewSource(seed)).Read(sent)
			go func() {
				_, err := io.Copy(stream, bytes.NewReader(sent))
				check(err)
				check(stream.Close())
			}()
			hash := sha256.New()
			n, err := io.Copy(hash, stream)
			check(err)
			want := sha256.Sum256(sent)
			if n != int64(size) || !bytes.Equal(hash.Sum(nil), want[:]) {
				check(fmt.Errorf("stream %d: %d bytes came back of %d, or others", stream.StreamID(), n, size))
			}
		}(int64(i))
	}
	wait.Wait()
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}
