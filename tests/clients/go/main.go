// A workload that knows nothing of Muster: go-spiffe, unchanged. It prints one JSON object per event.
//
//	client fetch-x509 | watch-x509 | fetch-bundles | fetch-jwt AUDIENCE... | fetch-jwt-bundles
//	client validate-jwt AUDIENCE TOKEN
//	client serve ADDRESS PEER-ID [AUDIENCE] mTLS echo with SVIDs that follow rotation; with AUDIENCE the peer must also show a token
//	client dial ADDRESS PEER-ID N [PAUSE [AUDIENCE]]   N new connections, one echo each, PAUSE ms apart; stops early when stdin closes
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
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
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
				"keys": slices.Sorted(maps.Keys(bundle.JWTAuthorities())),
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
