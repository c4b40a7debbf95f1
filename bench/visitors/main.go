// Visitors by TLS who come for one request each, for the measurements of bench/httpsnew.ts: wrk resumes about half of
// its sessions, and openssl's s_time asks for no host. Verifies nothing. Prints one line of JSON.
package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// The name that they ask for.
const host = "localhost"

// How long one may take for all that it does.
const patience = 10 * time.Second

type tally struct {
	Full    int `json:"full"`
	Resumed int `json:"resumed"`
	Errors  int `json:"errors"`
	// The first of them.
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`
}

func main() {
	atOnce := flag.Int("at-once", 16, "visitors at a time")
	seconds := flag.Float64("seconds", 5, "for how long they come")
	handshake := flag.String("handshake", "full", "full, or resumed")
	flag.Parse()
	if flag.NArg() != 1 || (*handshake != "full" && *handshake != "resumed") {
		fmt.Fprintln(os.Stderr, "usage: visitors [-at-once N] [-seconds N] [-handshake full|resumed] ADDRESS:PORT")
		os.Exit(2)
	}
	address := flag.Arg(0)
	configs := make([]*tls.Config, *atOnce)
	var sum tally
	for i := range configs {
		// X25519 only, so that the visitors' own keys, which are not what is measured, cost little.
		configs[i] = &tls.Config{
			ServerName:         host,
			InsecureSkipVerify: true,
			CurvePreferences:   []tls.CurveID{tls.X25519},
			NextProtos:         []string{"http/1.1"},
		}
		if *handshake == "full" {
			continue
		}
		// The first of each gets the ticket, before time is taken.
		configs[i].ClientSessionCache = tls.NewLRUClientSessionCache(1)
		if _, err := visit(address, configs[i]); err != nil {
			sum.fail(err)
		}
	}
	tallies := make([]tally, *atOnce)
	start := time.Now()
	end := start.Add(time.Duration(*seconds * float64(time.Second)))
	var all sync.WaitGroup
	for i := range configs {
		all.Add(1)
		go func(config *tls.Config, t *tally) {
			defer all.Done()
			for time.Now().Before(end) {
				resumed, err := visit(address, config)
				if err != nil {
					t.fail(err)
				} else if resumed {
					t.Resumed++
				} else {
					t.Full++
				}
			}
		}(configs[i], &tallies[i])
	}
	all.Wait()
	sum.Seconds = time.Since(start).Seconds()
	for _, t := range tallies {
		sum.Full += t.Full
		sum.Resumed += t.Resumed
		sum.Errors += t.Errors
		if sum.Error == "" {
			sum.Error = t.Error
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(sum); err != nil {
		os.Exit(1)
	}
}

func (t *tally) fail(err error) {
	t.Errors++
	if t.Error == "" {
		t.Error = err.Error()
	}
}

// One connection, one request, and its whole answer: a ticket comes before that, and is read with it.
func visit(address string, config *tls.Config) (resumed bool, err error) {
	raw, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return false, err
	}
	defer raw.Close()
	if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
		return false, err
	}
	connection := tls.Client(raw, config)
	if err := connection.Handshake(); err != nil {
		return false, err
	}
	state := connection.ConnectionState()
	if state.Version != tls.VersionTLS13 {
		return false, fmt.Errorf("not TLS 1.3 but %s", tls.VersionName(state.Version))
	}
	if _, err := io.WriteString(connection, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); err != nil {
		return false, err
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(connection, 1024), nil)
	if err != nil {
		return false, err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return false, err
	}
	if response.StatusCode != http.StatusOK || string(body) != "ok\n" {
		return false, fmt.Errorf("status %d, body %.80q", response.StatusCode, body)
	}
	return state.DidResume, connection.Close()
}
