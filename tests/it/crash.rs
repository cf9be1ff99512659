//! The server is killed, or its machine loses power, at any instant: what was acknowledged is there, everything else wholly
//! or not at all, and the store opens.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    time::Duration,
};

use muster_proto::spire::{
    server::entry::{BatchCreateEntryRequest, ListEntriesRequest, entry_client::EntryClient},
    types,
};
use muster_tests::{Cluster, Settings, need, need_root};
use nix::sys::signal::Signal;

/// More in a soak (`MUSTER_ROUNDS`).
const ROUNDS: u64 = 50;
const BATCH: u64 = 20;

/// So many rounds end one server; then a new one begins, so that what is compared stays small.
const ROUNDS_OF_ONE: u64 = 100;

#[test]
fn a_killed_server_keeps_every_acknowledged_entry() {
    let kept = in_turns(|rounds| {
        let mut cluster = Cluster::start(&Settings::default());
        survive("kill -9", &mut cluster, rounds, |cluster| {
            cluster.take_server().kill();
        })
    });
    println!("figure: kill -9: {kept}");
}

#[test]
fn host_a_power_cut_under_the_store_keeps_every_acknowledged_entry() {
    if !need_root() || !Disk::is_possible() {
        return;
    }
    let kept = in_turns(|rounds| {
        let mut cluster = Cluster::start(&Settings {
            before: Some(Disk::make),
            ..Settings::default()
        });
        let disk = Disk {
            at: cluster.path().join("server/data"),
        };
        survive("power cut", &mut cluster, rounds, |cluster| {
            let server = cluster.take_server();
            // Stopped first: nothing may reach the disk between the cut and the end of the process.
            server.signal(Signal::SIGSTOP);
            disk.cut();
            server.kill();
            disk.unmount();
            disk.mount();
        })
    });
    println!("figure: power cut on ext4: {kept}");
}

fn in_turns(turn: impl Fn(u64) -> usize) -> String {
    let rounds = muster_tests::rounds(ROUNDS);
    let mut kept = 0;
    for first in (0..rounds).step_by(usize::try_from(ROUNDS_OF_ONE).expect("a small number")) {
        kept += turn(ROUNDS_OF_ONE.min(rounds - first));
    }
    format!("{rounds} rounds, {kept} entries acknowledged, 0 lost")
}

/// Writes, ends the server by `fault` at an instant, starts it again and looks: round after round.
fn survive(what: &str, cluster: &mut Cluster, rounds: u64, fault: impl Fn(&mut Cluster)) -> usize {
    drop(cluster.take_agent());
    let mut acknowledged: BTreeMap<String, types::Entry> = BTreeMap::new();
    let mut written = 0u64;
    for round in 0..rounds {
        let mut client = cluster.block_on(async { EntryClient::new(cluster.channel().await) });
        let (acks, acked) = mpsc::channel();
        let first = written;
        let template = cluster.entry("/x", &["unix:uid:1"]);
        let writer = cluster.spawn(async move {
            for batch in 0.. {
                let entries = (0..BATCH)
                    .map(|item| numbered(&template, first + batch * BATCH + item))
                    .collect();
                let request = BatchCreateEntryRequest {
                    entries,
                    output_mask: None,
                };
                let Ok(answer) = client.batch_create_entry(request).await else {
                    return (batch + 1) * BATCH;
                };
                for result in answer.into_inner().results {
                    assert_eq!(result.status.unwrap().code, 0);
                    acks.send(result.entry.unwrap()).unwrap();
                }
            }
            unreachable!("the server is ended")
        });
        // The instant is the fault's, not a wait for something: spread evenly over the first 50 ms of writing.
        std::thread::sleep(Duration::from_millis(round * 50 / rounds));
        fault(cluster);
        written += cluster.block_on(writer).unwrap();
        acknowledged.extend(acked.into_iter().map(|entry| (entry.id.clone(), entry)));

        cluster.start_server();
        let held = held(cluster);
        for (id, entry) in &acknowledged {
            assert_eq!(
                held.get(id),
                Some(entry),
                "{what}, round {round}: an acknowledged entry is gone or changed"
            );
        }
        assert!(
            held.values().all(|entry| entry.selectors.len() == 1),
            "{what}, round {round}: half an entry"
        );
        // What was never acknowledged counts from now on: it must not vanish either.
        acknowledged = held;
    }
    assert!(
        acknowledged.len() as u64 > rounds,
        "{what}: hardly anything was written before the faults"
    );
    acknowledged.len()
}

/// Everything that the server holds, page by page.
fn held(cluster: &Cluster) -> BTreeMap<String, types::Entry> {
    cluster.block_on(async {
        let mut client = EntryClient::new(cluster.channel().await);
        let mut request = ListEntriesRequest {
            page_size: 500,
            ..ListEntriesRequest::default()
        };
        let mut held = BTreeMap::new();
        loop {
            let page = client.list_entries(request.clone()).await.unwrap().into_inner();
            held.extend(page.entries.into_iter().map(|entry| (entry.id.clone(), entry)));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return held;
            }
        }
    })
}

fn numbered(template: &types::Entry, number: u64) -> types::Entry {
    let mut entry = template.clone();
    entry.spiffe_id.as_mut().unwrap().path = format!("/entry/{number}");
    entry
}

/// A small ext4 on a file, under the server's data folder. It can lose power: the file system forgets at once what it has
/// not written (`EXT4_IOC_SHUTDOWN`, without flushing its log).
struct Disk {
    at: PathBuf,
}

impl Disk {
    fn is_possible() -> bool {
        let possible = Path::new("/dev/loop-control").exists() && Path::new("/sbin/mkfs.ext4").exists();
        need("loop devices and mkfs.ext4", possible)
    }

    /// Makes it in the folder of a story, before the server's first start.
    fn make(dir: &Path) {
        let image = dir.join("disk.img");
        File::create(&image).unwrap().set_len(256 << 20).unwrap();
        run("/sbin/mkfs.ext4", &["-q", "-F", &image.display().to_string()]);
        let disk = Self {
            at: dir.join("server/data"),
        };
        std::fs::create_dir_all(&disk.at).unwrap();
        disk.mount();
        std::fs::set_permissions(&disk.at, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        // Ours goes without saying what it is: the mount stays, the guard is made by the story.
        std::mem::forget(disk);
    }

    fn mount(&self) {
        let image = self.at.ancestors().nth(2).unwrap().join("disk.img");
        run(
            "mount",
            &[
                "-o",
                "loop",
                &image.display().to_string(),
                &self.at.display().to_string(),
            ],
        );
    }

    fn unmount(&self) {
        run("umount", &[&self.at.display().to_string()]);
    }

    fn cut(&self) {
        const EXT4_IOC_SHUTDOWN: u32 = 0x8004_587d;
        const WITHOUT_LOG_FLUSH: u32 = 2;
        // The standard library has no ioctl, and this crate no unsafe code.
        let script = "import fcntl, os, struct, sys\n\
                      fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), int(sys.argv[2]), struct.pack('I', int(sys.argv[3])))";
        let (order, flag) = (EXT4_IOC_SHUTDOWN.to_string(), WITHOUT_LOG_FLUSH.to_string());
        run(
            "python3",
            &["-c", script, &self.at.display().to_string(), &order, &flag],
        );
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the server may still run when a story has failed.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
