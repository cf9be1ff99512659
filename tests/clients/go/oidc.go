package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"

	"github.com/coreos/go-oidc/v3/oidc"
)

// relyOn is a relying party that was given nothing but the issuer's URL (and whose TLS to believe): it finds the keys by
// discovery and says what it makes of the token.
func relyOn(issuer, authorities, audience, token string) {
	pem, err := os.ReadFile(authorities)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	ctx := oidc.ClientContext(context.Background(), client)
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		event("error", object{"code": "Discovery", "message": err.Error()})
		return
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: audience}).Verify(ctx, token)
	if err != nil {
		event("error", object{"code": "Token", "message": err.Error()})
		return
	}
	event("accepted", object{"subject": verified.Subject, "issuer": verified.Issuer, "audience": verified.Audience})
}
