// Names the release that build builds; go.sum holds what it must hash to.
module spire-peer

go 1.26.6

require github.com/spiffe/spire v1.15.3
