//! Callers that are known by the hash of a large program: the attestor has 16 MB to read, once or each time.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};

use crate::{
    daemon::cpu,
    side::{Side, dial, our_selector, watch},
    turns::{Did, median},
};

const SIZE: usize = 16 << 20;
const CALLERS: usize = 16;
const ROUNDS: usize = 3;
const PATH: &str = "/hashed";

/// A copy of this program, filled up to 16 MB.
pub(crate) struct Program {
    path: PathBuf,
    hash: String,
}

impl Program {
    pub(crate) fn make(folder: &Path) -> Self {
        let mut bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        // What follows the last section of an executable is nobody's.
        bytes.resize(SIZE.max(bytes.len()), 0);
        let path = folder.join("large-caller");
        let mut file = File::create(&path).unwrap();
        file.write_all(&bytes).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o755)).unwrap();
        let hash = digest(&SHA256, &bytes)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self { path, hash }
    }

    /// Registers it by its hash and its user, as the only identity it has, and lets it call on each side in turn.
    pub(crate) async fn measure(&self, sides: &mut [&mut Side], each: Duration) -> Vec<Did> {
        let selectors = [our_selector(), format!("unix:sha256:{}", self.hash)];
        self.known_by(&selectors, sides, each).await
    }

    /// The same program known by its user alone: what the hash is held against.
    pub(crate) async fn measure_without_hash(&self, side: &mut Side, each: Duration) -> Did {
        let mut did = self.known_by(&[our_selector()], &mut [side], each).await;
        did.pop().expect("one side was asked")
    }

    async fn known_by(&self, selectors: &[String], sides: &mut [&mut Side], each: Duration) -> Vec<Did> {
        let mut ids = Vec::new();
        for side in &mut *sides {
            side.forget_us().await;
            let entry = side.entry(PATH, selectors);
            ids.push(side.create(&side.admin().await, vec![entry]).await);
        }
        let mut seen: Vec<Slices> = sides.iter().map(|_| Slices::default()).collect();
        for _ in 0..ROUNDS {
            for (side, seen) in sides.iter().zip(&mut seen) {
                self.call(side, seen, each);
            }
        }
        for (side, ids) in sides.iter_mut().zip(ids) {
            side.delete(&side.admin().await, ids).await;
            side.know_us().await;
        }
        seen.into_iter().map(Slices::told).collect()
    }

    /// Lets it call for one slice of time.
    fn call(&self, side: &Side, seen: &mut Slices, each: Duration) {
        let mut caller = Command::new(&self.path)
            .arg("caller")
            .arg(&side.workload)
            .arg(each.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(caller.stdout.take().expect("piped above")).lines();
        assert_eq!(said.next().unwrap().unwrap(), "identified");
        let before = cpu(side.agent.pid());
        drop(caller.stdin.take());
        let done: f64 = said.next().unwrap().unwrap().parse().unwrap();
        let spent = cpu(side.agent.pid()) - before;
        caller.wait().unwrap();
        seen.per_second.push(done / each.as_secs_f64());
        seen.cpu_us.push(spent.as_secs_f64() * 1e6 / done);
    }
}

#[derive(Default)]
struct Slices {
    per_second: Vec<f64>,
    cpu_us: Vec<f64>,
}

impl Slices {
    fn told(mut self) -> Did {
        Did {
            per_second: median(&mut self.per_second),
            cpu_us: vec![median(&mut self.cpu_us)],
            p50_ms: f64::NAN,
            refused: 0,
        }
    }
}

/// What the process does: `caller SOCKET MILLISECONDS`. It waits until it has its identity, then for the end of its
/// input, then calls, and prints how often.
pub(crate) async fn caller(args: &[String]) {
    let [socket, millis] = args else {
        panic!("usage: caller SOCKET MILLISECONDS");
    };
    let each = Duration::from_millis(millis.parse().unwrap());
    let mut channels = Vec::new();
    for _ in 0..CALLERS {
        channels.push(dial(socket.into()).await.unwrap());
    }
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let first = watch(channels[0].clone()).await;
        if first.is_ok_and(|(_, first)| matches!(&first.svids[..], [one] if one.spiffe_id.ends_with(PATH))) {
            break;
        }
        assert!(Instant::now() < patience, "the identity never came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("identified");
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).unwrap();
    let end = Instant::now() + each;
    let mut callers = tokio::task::JoinSet::new();
    for channel in channels {
        callers.spawn(async move {
            let mut done = 0u64;
            while Instant::now() < end {
                watch(channel.clone()).await.unwrap();
                done += 1;
            }
            done
        });
    }
    println!("{}", callers.join_all().await.into_iter().sum::<u64>());
}
