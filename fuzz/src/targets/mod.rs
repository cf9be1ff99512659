mod attestations;
mod bundles;
mod certificates;
mod files;
mod frames;
mod messages;
mod names;
mod processes;
mod revocation;
mod store;
mod tokens;

use crate::Target;

/// Everything that is tried.
pub const TARGETS: &[Target] = &[
    names::SPIFFE_IDS,
    names::SELECTORS,
    names::DNS_NAMES,
    certificates::CERTIFICATES,
    certificates::CHAINS,
    certificates::REQUESTS,
    revocation::LISTS,
    tokens::TOKENS,
    tokens::KEYS,
    bundles::DOCUMENTS,
    bundles::MAPS,
    bundles::FILES,
    attestations::MESSAGES,
    attestations::TEMPLATES,
    messages::ADMINISTRATORS,
    messages::NODES,
    frames::HTTP2,
    files::AGENT_CONFIGURATION,
    files::SERVER_CONFIGURATION,
    files::JOURNAL,
    processes::PROC,
    store::STORE,
];
