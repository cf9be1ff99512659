package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// Exchanges are mTLS connections between two workloads, each with one echo. With an audience the one who dials sends a line with a
// JWT-SVID, and is answered when the other one found it valid and of the peer.
type exchanges struct {
	peer     spiffeid.ID
	audience string
	source   *workloadapi.X509Source
	tokens   *workloadapi.Client
}

func overTLS(ctx context.Context, command string, args []string) error {
	peer, err := spiffeid.FromString(args[1])
	if err != nil {
		return err
	}
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	tokens, err := workloadapi.New(ctx)
	if err != nil {
		return err
	}
	defer tokens.Close()
	made := exchanges{peer: peer, source: source, tokens: tokens}
	authorizer := tlsconfig.AuthorizeID(peer)
	if command == "serve" {
		if len(args) > 2 {
			made.audience = args[2]
		} else {
			go sayWhatIsHeld(ctx, source)
		}
		return made.serve(ctx, args[0], tlsconfig.MTLSServerConfig(source, source, authorizer))
	}
	rounds, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	pause := 0
	if len(args) > 3 {
		if pause, err = strconv.Atoi(args[3]); err != nil {
			return err
		}
	}
	if len(args) > 4 {
		made.audience = args[4]
	} else {
		go sayWhatIsHeld(ctx, source)
	}
	return made.dial(ctx, args[0], rounds, time.Duration(pause)*time.Millisecond, tlsconfig.MTLSClientConfig(source, source, authorizer))
}

// An update wakes one of those who wait for it: with an audience it is the exchanges that say what is held.
func sayWhatIsHeld(ctx context.Context, source *workloadapi.X509Source) {
	for {
		svid, err := source.GetX509SVID()
		if err != nil {
			failure(err)
			return
		}
		bundle, err := source.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
		if err != nil {
			failure(err)
			return
		}
		event("holds", object{
			"serial": svid.Certificates[0].SerialNumber.String(), "authorities": len(bundle.X509Authorities()),
		})
		if source.WaitUntilUpdated(ctx) != nil {
			return
		}
	}
}

func (e *exchanges) serve(ctx context.Context, address string, config *tls.Config) error {
	listener, err := tls.Listen("tcp", address, config)
	if err != nil {
		return err
	}
	event("listening", object{"addr": listener.Addr().String()})
	go func() {
		<-ctx.Done()
		listener.Close()
	}()
	if e.audience != "" {
		go func() {
			for {
				event("held", object{"authorities": e.held()})
				select {
				case <-e.source.Updated():
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return nil
		}
		go func() {
			defer conn.Close()
			if err := e.answer(ctx, conn); err != nil {
				event("refused", object{"message": err.Error()})
			}
		}()
	}
}

func (e *exchanges) answer(ctx context.Context, conn net.Conn) error {
	if e.audience == "" {
		_, err := io.Copy(conn, conn)
		return err
	}
	token, err := bufio.NewReader(io.LimitReader(conn, 64<<10)).ReadString('\n')
	if err != nil {
		return err
	}
	svid, err := e.tokens.ValidateJWTSVID(ctx, strings.TrimSpace(token), e.audience)
	if err != nil {
		return fmt.Errorf("the token: %w", err)
	}
	if svid.ID != e.peer {
		return fmt.Errorf("the token is of %s", svid.ID)
	}
	_, err = conn.Write([]byte("taken\n"))
	return err
}

func (e *exchanges) dial(ctx context.Context, address string, rounds int, pause time.Duration, config *tls.Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	served, serials, refused := 0, map[string]int{}, []string{}
	done, told := 0, object{}
	for ; done < rounds && ctx.Err() == nil; done++ {
		exchanged, serial, err := e.exchange(address, config)
		if err != nil {
			refused = append(refused, err.Error())
		} else {
			served++
			serials[serial]++
		}
		// What an exchange was made with that has ended is what no later one goes back behind.
		if e.audience != "" && err == nil && !reflect.DeepEqual(exchanged, told) {
			told = exchanged
			event("exchange", object{"made_with": exchanged})
		}
		rest(ctx, pause)
	}
	event("dialed", object{
		"ok": served, "failed": done - served, "errors": refused[:min(len(refused), 20)], "peer_serials": len(serials),
	})
	return nil
}

// rest waits, but not for what is to stop.
func rest(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

// One connection; what it was made with, and the serial number of the peer's certificate.
func (e *exchanges) exchange(address string, config *tls.Config) (object, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	said, length, kid := "muster", 6, ""
	own, err := e.source.GetX509SVID()
	if err != nil {
		return nil, "", err
	}
	held := e.held()
	if e.audience != "" {
		svid, err := e.tokens.FetchJWTSVID(ctx, jwtsvid.Params{Audience: e.audience})
		if err != nil {
			return nil, "", fmt.Errorf("a token: %w", err)
		}
		if kid, err = signedBy(svid.Marshal()); err != nil {
			return nil, "", fmt.Errorf("a token: %w", err)
		}
		said = svid.Marshal() + "\n"
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	conn, err := tls.DialWithDialer(dialer, "tcp", address, config)
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, "", err
	}
	if _, err := conn.Write([]byte(said)); err != nil {
		return nil, "", err
	}
	answer := make([]byte, length)
	if _, err := io.ReadFull(conn, answer); err != nil {
		if errors.Is(err, io.EOF) && e.audience != "" {
			err = errors.New("the peer did not take certificate or token")
		}
		return nil, "", err
	}
	leaf := conn.ConnectionState().PeerCertificates[0]
	made := object{"own": issuer(own.Certificates[0]), "peer": issuer(leaf), "key": kid, "authorities": held}
	return made, leaf.SerialNumber.String(), nil
}

// The authorities that are held of the peer's trust domain and of ours, by their key identifiers.
func (e *exchanges) held() map[string][]string {
	held := map[string][]string{}
	domains := []spiffeid.TrustDomain{e.peer.TrustDomain()}
	if own, err := e.source.GetX509SVID(); err == nil && own.ID.TrustDomain() != domains[0] {
		domains = append(domains, own.ID.TrustDomain())
	}
	for _, domain := range domains {
		bundle, err := e.source.GetX509BundleForTrustDomain(domain)
		if err != nil {
			continue
		}
		for _, authority := range bundle.X509Authorities() {
			held[domain.Name()] = append(held[domain.Name()], hex.EncodeToString(authority.SubjectKeyId))
		}
	}
	return held
}

func issuer(leaf *x509.Certificate) string { return hex.EncodeToString(leaf.AuthorityKeyId) }
