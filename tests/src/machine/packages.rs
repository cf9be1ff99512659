use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;

use crate::{binary, root};

/// The packages as a user gets them, in two revisions of the same programs: one to install and one to upgrade to.
pub struct Packages {
    dir: TempDir,
}

impl Packages {
    /// Those of the programs under test; made once per run.
    pub fn of_this_build() -> &'static Self {
        static MADE: OnceLock<Packages> = OnceLock::new();
        MADE.get_or_init(Self::make)
    }

    fn make() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("muster-packages-")
            .tempdir()
            .unwrap();
        let binaries = binary("muster-packages")
            .parent()
            .expect("a program lies in a folder")
            .to_path_buf();
        let made = Command::new(root().join("packages/assemble"))
            .args(["--fast", "yes"])
            .arg(binaries)
            .arg(dir.path().join("1"))
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "packages/assemble: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let packages = Self { dir };
        fs::create_dir(packages.dir.path().join("2")).unwrap();
        for deb in packages.first() {
            packages.next_revision_of(&deb);
        }
        packages
    }

    /// The folder with all that is handed out beside the packages of the first revision: archive, image, lists of parts, sums.
    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("1")
    }

    /// The first revision: server, node agent, command.
    pub fn first(&self) -> Vec<PathBuf> {
        debs(&self.folder())
    }

    /// The second.
    pub fn second(&self) -> Vec<PathBuf> {
        debs(&self.dir.path().join("2"))
    }

    /// A package that differs in its version alone.
    fn next_revision_of(&self, deb: &Path) {
        let name = deb.file_name().expect("a file").to_string_lossy();
        let (tree, next) = (
            self.dir.path().join("tree"),
            self.dir.path().join("2").join(name.replacen("-1_", "-2_", 1)),
        );
        run(Command::new("dpkg-deb").arg("-R").arg(deb).arg(&tree));
        let control = tree.join("DEBIAN/control");
        let text = fs::read_to_string(&control).unwrap();
        let (version, changed) = (version_line(&text), text.clone());
        let changed = changed.replacen(version, &format!("{}2", version.trim_end_matches('1')), 1);
        assert_ne!(text, changed, "{version}");
        fs::write(&control, changed).unwrap();
        run(Command::new("dpkg-deb")
            .args(["-Znone", "-b"])
            .arg(&tree)
            .arg(&next));
        fs::remove_dir_all(&tree).unwrap();
    }
}

fn version_line(control: &str) -> &str {
    control
        .lines()
        .find(|line| line.starts_with("Version: "))
        .expect("every package has one")
}

fn debs(folder: &Path) -> Vec<PathBuf> {
    let mut debs: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    debs.sort();
    assert_eq!(debs.len(), 3, "server, node agent, command");
    debs
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
