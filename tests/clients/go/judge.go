package main

import (
	"bufio"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"io"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// One question a line. With a chain it is about an X.509-SVID, otherwise about a JWT-SVID; the time counts for the
// first alone, because the library takes none for the second.
type question struct {
	Chain    [][]byte                     `json:"chain"`
	Roots    map[string][][]byte          `json:"roots"`
	At       int64                        `json:"at"`
	Token    string                       `json:"token"`
	Keys     map[string]map[string][]byte `json:"keys"`
	Audience string                       `json:"audience"`
}

// judge answers each line of input with one of output: {"id": ...} or {"error": ...}.
func judge(input io.Reader, output io.Writer) error {
	questions := json.NewDecoder(bufio.NewReaderSize(input, 1<<20))
	buffered := bufio.NewWriterSize(output, 1<<20)
	defer buffered.Flush()
	answers := json.NewEncoder(buffered)
	for {
		var asked question
		if err := questions.Decode(&asked); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var id spiffeid.ID
		var err error
		if asked.Chain != nil {
			id, err = judgeChain(asked)
		} else {
			id, err = judgeToken(asked)
		}
		answer := object{"id": id.String()}
		if err != nil {
			answer = object{"error": err.Error()}
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
}

func judgeChain(asked question) (spiffeid.ID, error) {
	bundles := x509bundle.NewSet()
	for name, ders := range asked.Roots {
		domain, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			return spiffeid.ID{}, err
		}
		roots := []*x509.Certificate{}
		for _, der := range ders {
			// What is no certificate never gets into a bundle.
			if root, err := x509.ParseCertificate(der); err == nil {
				roots = append(roots, root)
			}
		}
		bundles.Add(x509bundle.FromX509Authorities(domain, roots))
	}
	id, _, err := x509svid.ParseAndVerify(asked.Chain, bundles, x509svid.WithTime(time.Unix(asked.At, 0)))
	return id, err
}

func judgeToken(asked question) (spiffeid.ID, error) {
	bundles := jwtbundle.NewSet()
	for name, ders := range asked.Keys {
		domain, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			return spiffeid.ID{}, err
		}
		keys := map[string]crypto.PublicKey{}
		for kid, der := range ders {
			key, err := x509.ParsePKIXPublicKey(der)
			if err != nil {
				return spiffeid.ID{}, err
			}
			keys[kid] = key
		}
		bundles.Add(jwtbundle.FromJWTAuthorities(domain, keys))
	}
	svid, err := jwtsvid.ParseAndValidate(asked.Token, bundles, []string{asked.Audience})
	if err != nil {
		return spiffeid.ID{}, err
	}
	return svid.ID, nil
}
