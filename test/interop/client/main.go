// A second client, written from docs/PROTOCOL.md alone and on a yamux that is not ours, to hold the document to
// its word. "Section" means one of that document's. It serves one tcp service under a port of the gateway's choice:
//
//	client [-name ssh] <invite, or - for standard input> 127.0.0.1:22
//
// and prints one line of JSON, that says where visitors reach the target. What it leaves out, as a client may:
// a second tunnel to the other gateways behind an address, and a key that outlives the process.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log"
	mathrand "math/rand"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// Section 9.
const (
	handshake     = 10 * time.Second
	keepalive     = 5 * time.Second
	targetConnect = 10 * time.Second
	refusedRetry  = time.Minute
	orderlyClose  = 2 * time.Second
	backoffBase   = 250 * time.Millisecond
	backoffMax    = 5 * time.Second
	backoffReset  = 10 * time.Second
	controlBytes  = 65536
	proxyBytes    = 4096
	streamsAtOnce = 8192
	// Half of CONTROL_MESSAGES_PER_SECOND, in each half second.
	unreachedAtOnce = 250
	drainFor        = 5 * time.Second // our choice, up to DRAIN_MS_MAX
)

// errFinal marks what another dial cannot mend (sections 1 and 8).
var errFinal = errors.New("not dialling again")

// client is what outlives a tunnel.
type client struct {
	invite            *invite
	certificate       tls.Certificate
	service, target   string
	instance, process string
	enrolled, printed atomic.Bool
	streams           atomic.Int64 // over all tunnels
}

func main() {
	log.SetFlags(0)
	name := flag.String("name", "interop", "name of the service")
	flag.Parse()
	if flag.NArg() != 2 {
		log.Fatal("usage: client [-name name] <invite or -> <target host:port>")
	}
	text := flag.Arg(0)
	if text == "-" {
		text, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	}
	invite, err := decodeInvite(text)
	if err != nil {
		log.Fatal(err)
	}
	certificate, err := newCertificate()
	if err != nil {
		log.Fatal(err)
	}
	c := &client{
		invite: invite, certificate: certificate, service: *name, target: flag.Arg(1),
		instance: randomHex(16), process: randomHex(8),
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := c.run(ctx); err != nil {
		log.Fatal(err)
	}
}

// run keeps a tunnel until the context ends, which is no error (section 6, "Dialling again").
func (c *client) run(ctx context.Context) error {
	bound := backoffBase
	for {
		began := time.Now()
		err := c.tunnel(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errFinal) {
			return err
		}
		log.Print(err)
		if time.Since(began) >= backoffReset {
			bound = backoffBase
		}
		pause := time.Duration(mathrand.Int63n(int64(bound)))
		var r *reject
		if errors.As(err, &r) {
			if least := r.pause(); pause < least {
				pause = least
			}
		}
		if bound *= 2; bound > backoffMax {
			bound = backoffMax
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// tunnel dials the addresses in their order and serves the first that answers.
func (c *client) tunnel(ctx context.Context) error {
	var failures []error
	for _, address := range c.invite.addresses {
		conn, err := c.dial(ctx, address)
		if err == nil {
			return c.serve(ctx, conn, address)
		}
		if errors.Is(err, errFinal) {
			return err
		}
		failures = append(failures, fmt.Errorf("%s: %w", address, err))
	}
	return errors.Join(failures...)
}

// dial is section 1. Go checks the certificate in VerifyConnection before the client's part of the handshake goes
// out, so a gateway with another key does not even see ours.
func (c *client) dial(ctx context.Context, address string) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	tcp, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(tcp, &tls.Config{ // without ServerName none is sent
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"blindgate/1"},
		Certificates:           []tls.Certificate{c.certificate},
		InsecureSkipVerify:     true, // the pin is what counts
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if !c.invite.pins(state.PeerCertificates) {
				return fmt.Errorf("the gateway's key is not the invite's: %w", errFinal)
			}
			if state.NegotiatedProtocol != "blindgate/1" {
				return errors.New("no blindgate gateway")
			}
			return nil
		},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		tcp.Close()
		return nil, err
	}
	return conn, nil
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	if _, err := rand.Read(b); err != nil {
		panic(err)
	}
	return hex.EncodeToString(b)
}
