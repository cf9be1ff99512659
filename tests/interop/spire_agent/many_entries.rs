//! More entries than come unasked: revisions first, then what the agent asks for.

use muster_tests::{Settings, Tool, spire_is_here, until};
use serde_json::json;

use super::Joined;

const MANY: u64 = 1_200;

#[test]
fn twelve_hundred_entries_reach_an_agent_by_pages() {
    if !spire_is_here() {
        return;
    }
    let cache = "x509_svid_cache_max_size = 2000";
    let joined = Joined::start_with(&Settings::default(), cache);
    let tool = joined.home().tool();
    register_numbered(&tool, &joined.node, 0..MANY);
    // The agent fetches SVIDs ahead of need, so that each entry that it knows has one.
    until("an SVID of each entry", || {
        joined.counted("cached_x509_svids_count") == MANY
    });
    // One beyond a page's border, for callers that are here.
    let last = joined.register("/last", &[]);
    joined.until_ids("the last entry", &["/last"]);

    // A change among many is found by its revision, a deletion by its absence.
    let update = |hint: &str| {
        let uid = super::uid_selector();
        tool.ok(&[
            "entry",
            "update",
            "-entryID",
            &last,
            "-parentID",
            &joined.node,
            "-spiffeID",
            &format!("spiffe://example.org/{hint}"),
            "-selector",
            &uid,
        ]);
    };
    update("renamed");
    joined.until_ids("the renamed entry", &["/renamed"]);
    tool.ok(&["entry", "delete", "-entryID", &last]);
    joined.until_ids("its end", &[]);
    assert_eq!(joined.counted("cached_x509_svids_count"), MANY);
}

#[test]
fn the_border_of_a_page_loses_nothing() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&Settings::default());
    let tool = joined.home().tool();
    let mut there = 0;
    for border in [499, 500, 501, 1000] {
        register_numbered(&tool, &joined.node, there..border);
        there = border;
        until(&format!("{border} SVIDs"), || {
            joined.counted("cached_x509_svids_count") == border
        });
    }
}

#[test]
fn an_agent_that_asks_for_its_whole_list_gets_it() {
    if !spire_is_here() {
        return;
    }
    // As all of them did before there were pages.
    let whole = "experimental { use_sync_authorized_entries = false }";
    let joined = Joined::start_with(&Settings::default(), whole);
    register_numbered(&joined.home().tool(), &joined.node, 0..700);
    until("an SVID of each entry", || {
        joined.counted("cached_x509_svids_count") == 700
    });
}

/// Entries for users that are not here, from a file as operators have them.
fn register_numbered(tool: &Tool, node: &str, numbers: std::ops::Range<u64>) {
    let entries: Vec<_> = numbers
        .map(|number| {
            json!({
                "parent_id": node, "spiffe_id": format!("spiffe://example.org/numbered/{number}"),
                "selectors": [{ "type": "unix", "value": format!("uid:{}", 4_000_000 + number) }],
            })
        })
        .collect();
    let file = json!({ "entries": entries }).to_string();
    let said = tool.run_with(&["entry", "create", "-data", "-"], &file);
    assert_eq!(said.status, Some(0), "{}", said.err);
}
