// A workload that knows nothing of Muster: go-spiffe, unchanged. It prints one JSON object per event.
//
//	client fetch-x509 | watch-x509 | fetch-bundles | fetch-jwt AUDIENCE... | fetch-jwt-bundles
//	client validate-jwt AUDIENCE TOKEN
//	client serve ADDRESS PEER-ID            mTLS echo with SVIDs that follow rotation
//	client dial ADDRESS PEER-ID N [PAUSE]   N new connections, one echo each, PAUSE ms apart; stops early when stdin closes
//	client tokens AUDIENCE PAUSE            fetches and validates JWT-SVIDs, PAUSE ms apart, until stdin closes; judges the
//	                                        tokens on stdin (AUDIENCE TOKEN, one a line)
//	client hammer N                         N times: a new connection to the Workload API and one fetch
//	client rely-on ISSUER CA-FILE AUDIENCE TOKEN   an OpenID Connect relying party: go-oidc, unchanged
//	client judge                            what go-spiffe says of chains and tokens, one question and one answer a line
//
// Of serve, dial and tokens each says what it holds, at first and whenever that has changed.
//
// The Workload API is the one that SPIFFE_ENDPOINT_SOCKET names.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/status"
)

type object map[string]any

var output sync.Mutex

func event(name string, fields object) {
	fields["event"] = name
	line, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(line))
}

func failure(err error) {
	// go-spiffe wraps the status; the innermost one carries the code.
	code := status.Code(err)
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		if s, ok := status.FromError(inner); ok {
			code = s.Code()
		}
	}
	event("error", object{"code": code.String(), "message": err.Error()})
}

func describe(update *workloadapi.X509Context) object {
	svids := []object{}
	for _, svid := range update.SVIDs {
		leaf := svid.Certificates[0]
		svids = append(svids, object{
			"id": svid.ID.String(), "hint": svid.Hint, "serial": leaf.SerialNumber.String(),
			"not_before": leaf.NotBefore.Unix(), "not_after": leaf.NotAfter.Unix(),
			"chain": len(svid.Certificates), "dns": leaf.DNSNames,
		})
	}
	return object{"svids": svids, "bundles": domains(update.Bundles)}
}

func domains(set *x509bundle.Set) []object {
	bundles := []object{}
	for _, bundle := range set.Bundles() {
		bundles = append(bundles, object{
			"trust_domain": bundle.TrustDomain().Name(), "authorities": len(bundle.X509Authorities()),
		})
	}
	return bundles
}

type watcher struct{}

func (watcher) OnX509ContextUpdate(update *workloadapi.X509Context) { event("x509", describe(update)) }
func (watcher) OnX509ContextWatchError(err error)                   { failure(err) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "which command?")
		os.Exit(2)
	}
	if err := run(ctx, os.Args[1], os.Args[2:]); err != nil {
		failure(err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command string, args []string) error {
	if command == "hammer" {
		return hammer(ctx, args[0])
	}
	if command == "rely-on" && len(args) == 4 {
		relyOn(args[0], args[1], args[2], args[3])
		return nil
	}
	if command == "judge" {
		return judge(os.Stdin, os.Stdout)
	}
	if command == "tokens" && len(args) == 2 {
		return tokens(ctx, args[0], args[1])
	}
	if command == "serve" || command == "dial" {
		return overTLS(ctx, command, args)
	}
	client, err := workloadapi.New(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	switch command {
	case "fetch-x509":
		update, err := client.FetchX509Context(ctx)
		if err != nil {
			return err
		}
		event("x509", describe(update))
	case "watch-x509":
		if err := client.WatchX509Context(ctx, watcher{}); err != nil && ctx.Err() == nil {
			return err
		}
	case "fetch-bundles":
		set, err := client.FetchX509Bundles(ctx)
		if err != nil {
			return err
		}
		event("bundles", object{"bundles": domains(set)})
	case "fetch-jwt":
		svids, err := client.FetchJWTSVIDs(ctx, jwtsvid.Params{Audience: args[0], ExtraAudiences: args[1:]})
		if err != nil {
			return err
		}
		tokens := []object{}
		for _, svid := range svids {
			tokens = append(tokens, object{
				"id": svid.ID.String(), "hint": svid.Hint, "token": svid.Marshal(),
				"audience": svid.Audience, "not_after": svid.Expiry.Unix(),
			})
		}
		event("jwt", object{"svids": tokens})
	case "fetch-jwt-bundles":
		set, err := client.FetchJWTBundles(ctx)
		if err != nil {
			return err
		}
		bundles := []object{}
		for _, bundle := range set.Bundles() {
			bundles = append(bundles, object{
				"trust_domain": bundle.TrustDomain().Name(), "authorities": len(bundle.JWTAuthorities()),
			})
		}
		event("jwt-bundles", object{"bundles": bundles})
	case "validate-jwt":
		svid, err := client.ValidateJWTSVID(ctx, args[1], args[0])
		if err != nil {
			return err
		}
		event("valid", object{"id": svid.ID.String(), "claims": svid.Claims})
	default:
		return fmt.Errorf("unknown command %q", command)
	}
	return nil
}

func hammer(ctx context.Context, count string) error {
	rounds, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	served, refused := 0, map[string]int{}
	for range rounds {
		err := func() error {
			client, err := workloadapi.New(ctx)
			if err != nil {
				return err
			}
			defer client.Close()
			_, err = client.FetchX509SVID(ctx)
			return err
		}()
		if err != nil {
			refused[err.Error()]++
		} else {
			served++
		}
	}
	event("hammered", object{"ok": served, "failed": rounds - served, "errors": refused})
	return nil
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
	go sayWhatIsHeld(ctx, source)
	authorizer := tlsconfig.AuthorizeID(peer)
	if command == "serve" {
		return serve(ctx, args[0], tlsconfig.MTLSServerConfig(source, source, authorizer))
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
	return dial(ctx, args[0], rounds, time.Duration(pause)*time.Millisecond, tlsconfig.MTLSClientConfig(source, source, authorizer))
}

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

func serve(ctx context.Context, address string, config *tls.Config) error {
	listener, err := tls.Listen("tcp", address, config)
	if err != nil {
		return err
	}
	event("listening", object{"addr": listener.Addr().String()})
	go func() {
		<-ctx.Done()
		listener.Close()
	}()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return nil
		}
		go func() {
			defer conn.Close()
			if _, err := io.Copy(conn, conn); err != nil {
				event("refused", object{"message": err.Error()})
			}
		}()
	}
}

func dial(ctx context.Context, address string, rounds int, pause time.Duration, config *tls.Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	served, serials, refused := 0, map[string]int{}, []string{}
	done := 0
	for ; done < rounds && ctx.Err() == nil; done++ {
		serial, err := echo(address, config)
		if err != nil {
			refused = append(refused, err.Error())
		} else {
			served++
			serials[serial]++
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

func echo(address string, config *tls.Config) (string, error) {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	conn, err := tls.DialWithDialer(dialer, "tcp", address, config)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("muster")); err != nil {
		return "", err
	}
	var answer [6]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return "", err
	}
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}
