use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{self, Signal as Name};
use tokio::net::UnixDatagram;
use tokio::sync::{Mutex, Notify};

use super::*;

/// A signal reaches every supervisor of this process: one test at a time has one.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A daemon whose first reload takes `log.level` over, whose later ones find nothing to take over, and whose parts move unless they are stuck.
#[derive(Clone, Default)]
struct Fake {
    stuck: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
    taken: Arc<AtomicBool>,
    caught: Arc<Notify>,
}

impl Supervised for Fake {
    fn reload(&self) -> Result<Reloaded, String> {
        if self.broken.load(Ordering::SeqCst) {
            return Err("line 1:\nno key".to_owned());
        }
        let taken = if self.taken.swap(true, Ordering::SeqCst) {
            Vec::new()
        } else {
            vec!["log.level"]
        };
        let waiting = vec!["http"];
        Ok(Reloaded { taken, waiting })
    }

    async fn pulse(&self) {
        if self.stuck.load(Ordering::SeqCst) {
            self.caught.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

struct Systemd(UnixDatagram);

impl Systemd {
    fn listen(folder: &Path) -> (Self, Environment) {
        let path = folder.join("notify");
        let environment = Environment {
            notify_socket: path.to_str().map(str::to_owned),
            watchdog: None,
        };
        (Self(UnixDatagram::bind(&path).unwrap()), environment)
    }

    async fn heard(&self) -> String {
        let mut words = [0; 1_024];
        let length = self.0.recv(&mut words).await.unwrap();
        String::from_utf8_lossy(&words[..length]).into_owned()
    }

    fn heard_nothing(&self) -> bool {
        self.0.try_recv(&mut [0; 1_024]).is_err()
    }
}

#[tokio::test]
async fn ready_is_said_when_every_guard_is_dropped_and_more_time_is_asked_for_until_then() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let (systemd, environment) = Systemd::listen(folder.path());
    let (readiness, stop) = (Readiness::new(), Stop::new());
    let guard = readiness.guard("entries");
    let supervisor = Supervisor::new(&environment).unwrap();
    let story = async {
        let words = systemd.heard().await;
        assert_eq!(
            words,
            "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=starting: waiting for entries"
        );
        drop(guard);
        assert_eq!(systemd.heard().await, "READY=1\nSTATUS=ready");
        readiness.condition("disk").fails("no space\nleft");
        assert_eq!(
            systemd.heard().await,
            "STATUS=not ready: disk: no space\\u{a}left"
        );
        readiness.condition("disk").holds();
        assert_eq!(systemd.heard().await, "STATUS=ready");
        stop.order();
        assert_eq!(systemd.heard().await, "STOPPING=1\nSTATUS=stopping");
    };
    tokio::join!(
        supervisor.run(readiness.clone(), stop.clone(), Fake::default()),
        story
    );
}

#[tokio::test]
async fn a_stop_before_the_daemon_was_ready_is_told_too() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let (systemd, environment) = Systemd::listen(folder.path());
    let (readiness, stop) = (Readiness::new(), Stop::new());
    let _guard = readiness.guard("entries");
    stop.order();
    let supervisor = Supervisor::new(&environment).unwrap();
    supervisor.run(readiness, stop, Fake::default()).await;
    assert!(systemd.heard().await.contains("STATUS=starting"));
    assert!(systemd.heard().await.starts_with("STOPPING=1"));
}

#[tokio::test]
async fn a_hangup_reloads_and_systemd_hears_when_it_began_and_how_it_ended() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let (systemd, environment) = Systemd::listen(folder.path());
    let (readiness, stop, daemon) = (Readiness::new(), Stop::new(), Fake::default());
    let supervisor = Supervisor::new(&environment).unwrap();
    let began = |words: &str| {
        let rest = words.strip_prefix("RELOADING=1\nMONOTONIC_USEC=")?;
        rest.strip_suffix("\nSTATUS=reloading")?.parse::<u64>().ok()
    };
    let story = async {
        assert!(systemd.heard().await.starts_with("READY=1"));
        signal::raise(Name::SIGHUP).unwrap();
        let first = began(&systemd.heard().await).unwrap();
        assert_eq!(
            systemd.heard().await,
            "READY=1\nSTATUS=reloaded: took over log.level; a restart is needed for http"
        );
        daemon.broken.store(true, Ordering::SeqCst);
        signal::raise(Name::SIGHUP).unwrap();
        assert!(began(&systemd.heard().await).unwrap() >= first);
        assert_eq!(
            systemd.heard().await,
            "READY=1\nSTATUS=not reloaded: line 1:\\u{a}no key"
        );
        stop.order();
    };
    tokio::join!(supervisor.run(readiness, stop.clone(), daemon.clone()), story);
}

#[tokio::test]
async fn a_second_hangup_that_finds_nothing_new_leaves_the_status_of_the_first() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let (systemd, environment) = Systemd::listen(folder.path());
    let (readiness, stop, daemon) = (Readiness::new(), Stop::new(), Fake::default());
    let supervisor = Supervisor::new(&environment).unwrap();
    let reloaded = async || {
        signal::raise(Name::SIGHUP).unwrap();
        assert!(systemd.heard().await.starts_with("RELOADING=1\n"));
        systemd.heard().await
    };
    let story = async {
        assert!(systemd.heard().await.starts_with("READY=1"));
        for _ in 0..2 {
            assert_eq!(
                reloaded().await,
                "READY=1\nSTATUS=reloaded: took over log.level; a restart is needed for http"
            );
        }
        // What was said of a mistake ends when it is repaired, also where the repair brings nothing else.
        daemon.broken.store(true, Ordering::SeqCst);
        assert!(reloaded().await.contains("not reloaded"));
        daemon.broken.store(false, Ordering::SeqCst);
        assert_eq!(
            reloaded().await,
            "READY=1\nSTATUS=reloaded: nothing to take over; a restart is needed for http"
        );
        stop.order();
    };
    tokio::join!(
        supervisor.run(readiness.clone(), stop.clone(), daemon.clone()),
        story
    );
}

#[test]
fn what_waits_for_a_restart_is_said_anew_when_it_changes() {
    let reloaded = |taken: &[&'static str], waiting: &[&'static str]| Reloaded {
        taken: taken.to_vec(),
        waiting: waiting.to_vec(),
    };
    let first = reloaded(&["limits"], &["http"]);
    assert!(reloaded(&[], &["http"]).adds_nothing_to(&first));
    assert!(!reloaded(&[], &[]).adds_nothing_to(&first));
    assert!(!reloaded(&["limits"], &["http"]).adds_nothing_to(&first));
}

#[tokio::test]
async fn a_daemon_that_is_stuck_shows_no_sign_of_life() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let (systemd, environment) = Systemd::listen(folder.path());
    let environment = Environment {
        watchdog: Some(Duration::from_millis(3)),
        ..environment
    };
    let (readiness, stop, daemon) = (Readiness::new(), Stop::new(), Fake::default());
    let supervisor = Supervisor::new(&environment).unwrap();
    let story = async {
        let mut signs = 0;
        while signs < 3 {
            signs += u32::from(systemd.heard().await == "WATCHDOG=1");
        }
        daemon.stuck.store(true, Ordering::SeqCst);
        // Whoever waits for the pulse says nothing; what is heard now was said before it was stuck.
        daemon.caught.notified().await;
        while !systemd.heard_nothing() {}
        tokio::task::yield_now().await;
        assert!(systemd.heard_nothing());
        stop.order();
    };
    tokio::join!(supervisor.run(readiness, stop.clone(), daemon.clone()), story);
}

#[tokio::test]
async fn without_systemd_a_hangup_reloads_all_the_same() {
    let _alone = ALONE.lock().await;
    #[derive(Clone)]
    struct Counting(tokio::sync::mpsc::UnboundedSender<()>);
    impl Supervised for Counting {
        fn reload(&self) -> Result<Reloaded, String> {
            self.0.send(()).map_err(|error| error.to_string())?;
            Ok(Reloaded::default())
        }

        async fn pulse(&self) {}
    }
    let (stop, (reloads, mut reloaded)) = (Stop::new(), tokio::sync::mpsc::unbounded_channel());
    let supervisor = Supervisor::new(&Environment::default()).unwrap();
    // It comes before anybody listens, as when the daemon is still being built.
    signal::raise(Name::SIGHUP).unwrap();
    let story = async {
        reloaded.recv().await.unwrap();
        stop.order();
    };
    tokio::join!(
        supervisor.run(Readiness::new(), stop.clone(), Counting(reloads)),
        story
    );
}

#[tokio::test]
async fn a_notify_socket_that_is_gone_stops_nothing() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    for socket in [
        folder.path().join("nobody").to_str().unwrap(),
        "vsock:2:1234",
        "@",
    ] {
        let environment = Environment {
            notify_socket: Some(socket.to_owned()),
            watchdog: None,
        };
        let (supervisor, stop) = (Supervisor::new(&environment).unwrap(), Stop::new());
        stop.order();
        supervisor.run(Readiness::new(), stop, Fake::default()).await;
    }
}
