//! What becomes of a key in the node agent's memory when its identity is taken back (I5). Root reads the memory.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    os::unix::fs::FileExt as _,
};

use muster_proto::{
    spire::server::entry::{BatchDeleteEntryRequest, entry_client::EntryClient},
    workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient},
};
use muster_tests::{Cluster, Process, Settings, need_root, rounds, unix_channel, until};
use tonic::{Code, Request, Status};

/// SVIDs whose keys are looked for. As many as fit into one answer, with room to spare.
const KEYS: u64 = 200;

#[test]
fn host_the_key_of_an_identity_that_was_taken_back_is_nowhere_in_memory() {
    if !need_root() {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    let count = rounds(KEYS).min(1_000);
    let entries: Vec<String> = (0..count)
        .map(|number| cluster.register(&format!("/memory/{number}"), &["unix:uid:0"]))
        .collect();
    let mut keys = BTreeSet::new();
    until("every identity is signed", || {
        let told = fetch(&cluster).unwrap_or_default();
        // Those that were replaced meanwhile are known keys, too.
        keys.extend(told.iter().cloned());
        told.len() as u64 >= count
    });
    let held = keys_in(cluster.agent(), &keys);
    assert!(
        held > 0,
        "a node that serves {count} keys holds them, or this looks for the wrong thing"
    );
    cluster.block_on(async {
        let request = BatchDeleteEntryRequest { ids: entries };
        EntryClient::new(cluster.channel().await)
            .batch_delete_entry(request)
            .await
            .unwrap();
    });
    until("every identity is taken back", || {
        fetch(&cluster).is_err_and(|status| status.code() == Code::PermissionDenied)
    });
    // What it keeps on disk is written behind, and until then there is a copy to be written.
    let mut left = usize::MAX;
    until("no key is left", || {
        let now = keys_in(cluster.agent(), &keys);
        if now != left {
            println!("{now} keys in memory");
        }
        left = now;
        left == 0
    });
    println!(
        "figure: keys in the node agent's memory: {held} of {} while they counted, {left} after they were taken back",
        keys.len()
    );
}

/// The private keys that this process is given: the scalar of each.
fn fetch(cluster: &Cluster) -> Result<Vec<Vec<u8>>, Status> {
    cluster.block_on(async {
        let mut client = SpiffeWorkloadApiClient::new(unix_channel(cluster.workload_socket()).await);
        let mut request = Request::new(X509svidRequest {});
        request
            .metadata_mut()
            .insert("workload.spiffe.io", "true".parse().unwrap());
        let mut answers = client.fetch_x509svid(request).await?.into_inner();
        let answer = answers.message().await?.unwrap();
        // PKCS #8 of a P-256 key has the scalar behind 36 bytes of frame.
        Ok(answer
            .svids
            .iter()
            .map(|svid| svid.x509_svid_key[36..68].to_vec())
            .collect())
    })
}

/// How many of `keys` stand somewhere in the memory of `process`, in either order of bytes.
fn keys_in(process: &Process, keys: &BTreeSet<Vec<u8>>) -> usize {
    let mut sought: HashMap<[u8; 8], Vec<(usize, Vec<u8>)>> = HashMap::new();
    for (number, key) in keys.iter().enumerate() {
        let reversed = key.iter().rev().copied().collect();
        for form in [key.clone(), reversed] {
            let first = form[..8].try_into().unwrap();
            sought.entry(first).or_default().push((number, form));
        }
    }
    let pid = process.pid();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut found = BTreeSet::new();
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // A mapping that is gone meanwhile holds nothing.
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        for at in 0..bytes.len().saturating_sub(31) {
            let first: [u8; 8] = bytes[at..at + 8].try_into().unwrap();
            if first == [0; 8] {
                continue;
            }
            for (number, form) in sought.get(&first).into_iter().flatten() {
                if bytes[at..].starts_with(form) {
                    found.insert(*number);
                }
            }
        }
    }
    found.len()
}
