package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// One of so many tokens is for an audience of its own: it comes from the server, and not from what the agent holds.
const anew = 10

// A verifier asks the Workload API, and goes by the keys that it follows.
type verifier struct {
	client *workloadapi.Client
	source *workloadapi.JWTSource
}

// What the last token was signed by, and how many keys are known.
type holding struct {
	kid         string
	authorities int
}

func tokens(ctx context.Context, audience, pause string) error {
	milliseconds, err := strconv.Atoi(pause)
	if err != nil {
		return err
	}
	client, err := workloadapi.New(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	source, err := workloadapi.NewJWTSource(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	by := verifier{client, source}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		by.judgeEach(ctx)
		cancel()
	}()
	served, refused, said := 0, []string{}, holding{}
	for done := 0; ctx.Err() == nil; done++ {
		wanted := audience
		if done%anew == anew-1 {
			wanted = fmt.Sprintf("%s-%d", audience, done)
		}
		held, err := by.fetch(ctx, wanted)
		if ctx.Err() != nil {
			// What is under way when it is to stop says nothing.
			break
		}
		if err != nil {
			refused = append(refused, err.Error())
		} else {
			served++
			if held != said {
				event("holds", object{"kid": held.kid, "authorities": held.authorities})
				said = held
			}
		}
		rest(ctx, time.Duration(milliseconds)*time.Millisecond)
	}
	event("checked", object{"ok": served, "failed": len(refused), "errors": refused[:min(len(refused), 20)]})
	return nil
}

// fetch takes a token and holds it to both verdicts.
func (by verifier) fetch(ctx context.Context, audience string) (holding, error) {
	svid, err := by.client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	if err != nil {
		return holding{}, fmt.Errorf("fetching: %w", err)
	}
	token := svid.Marshal()
	workloadAPI, library := by.judge(ctx, audience, token)
	if err := errors.Join(workloadAPI, library); err != nil {
		return holding{}, err
	}
	bundle, err := by.source.GetJWTBundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		return holding{}, err
	}
	kid, err := signedBy(token)
	return holding{kid, len(bundle.JWTAuthorities())}, err
}

func (by verifier) judge(ctx context.Context, audience, token string) (workloadAPI, library error) {
	if _, err := by.client.ValidateJWTSVID(ctx, token, audience); err != nil {
		workloadAPI = fmt.Errorf("the Workload API: %w", err)
	}
	if _, err := jwtsvid.ParseAndValidate(token, by.source, []string{audience}); err != nil {
		library = fmt.Errorf("the library: %w", err)
	}
	return workloadAPI, library
}

// judgeEach answers each line of input: whether the Workload API and the library take the token.
func (by verifier) judgeEach(ctx context.Context) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		audience, token, _ := strings.Cut(lines.Text(), " ")
		workloadAPI, library := by.judge(ctx, audience, token)
		event("judged", object{
			"workload_api": workloadAPI == nil, "library": library == nil,
			"message": fmt.Sprint(errors.Join(workloadAPI, library)),
		})
	}
}

// signedBy reads which key a token names.
func signedBy(token string) (string, error) {
	head, _, _ := strings.Cut(token, ".")
	plain, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		return "", err
	}
	var header struct {
		Kid string `json:"kid"`
	}
	err = json.Unmarshal(plain, &header)
	return header.Kid, err
}
