package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"time"
	"unicode"
)

// invite is section 2's.
type invite struct {
	addresses    []string
	pin          [32]byte
	name, domain string
	secret       [16]byte
}

// decodeInvite takes what a person pasted, with white space anywhere.
func decodeInvite(text string) (*invite, error) {
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
	encoded, found := strings.CutPrefix(text, "bg1_")
	if !found || len(text) > 4096 {
		return nil, errors.New("that is no invite")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw) < 4 {
		return nil, errors.New("that is no invite")
	}
	body, sum := raw[:len(raw)-4], raw[len(raw)-4:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:4]) {
		return nil, errors.New("the invite is incomplete")
	}
	r := reader{rest: body}
	version, count := r.byte(), r.byte()
	if version != 1 || count < 1 || count > 4 {
		return nil, errors.New("an invite of another version")
	}
	in := &invite{}
	for i := byte(0); i < count; i++ {
		in.addresses = append(in.addresses, string(r.take(int(r.byte()))))
	}
	copy(in.pin[:], r.take(32))
	in.name = string(r.take(int(r.byte())))
	in.domain = string(r.take(int(r.byte())))
	copy(in.secret[:], r.take(16))
	if r.short || len(r.rest) > 0 {
		return nil, errors.New("the invite's parts do not fit together")
	}
	return in, nil
}

// pins compares in constant time (section 1). Only the key counts, of whatever certificate it comes in.
func (in *invite) pins(chain []*x509.Certificate) bool {
	if len(chain) == 0 {
		return false
	}
	_, isEd25519 := chain[0].PublicKey.(ed25519.PublicKey)
	got := sha256.Sum256(chain[0].RawSubjectPublicKeyInfo)
	return isEd25519 && subtle.ConstantTimeCompare(got[:], in.pin[:]) == 1
}

// newCertificate wraps a new key, valid for good (section 1).
func newCertificate() (tls.Certificate, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, err
}

// reader takes bytes off the front and remembers whether there were too few.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.short, r.rest = true, nil
		return make([]byte, n)
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) byte() byte { return r.take(1)[0] }
