//! The built programs themselves: what the linker was asked for, so that a bug is harder to use.

use std::process::Command;

use muster_tests::{binary, need_programs};

#[test]
fn the_daemons_are_position_independent_and_their_tables_are_closed_after_start() {
    if !need_programs(&["readelf"]) {
        return;
    }
    for program in ["muster-server", "muster-agent", "muster"] {
        let output = Command::new("readelf")
            .args(["-hldW"])
            .arg(binary(program))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.lines()
                .any(|line| line.trim_start().starts_with("Type:") && line.contains("DYN")),
            "{program}: PIE"
        );
        assert!(said.contains("GNU_RELRO"), "{program}: RELRO");
        assert!(
            said.contains("BIND_NOW") || said.contains("Flags: NOW"),
            "{program}: bound at start"
        );
        let stack = said.lines().find(|line| line.contains("GNU_STACK")).unwrap();
        assert!(
            stack.contains("RW ") && !stack.contains("RWE"),
            "{program}: {stack}"
        );
        assert!(!said.contains("TEXTREL"), "{program}: code is never written to");
        for library in ["libssl", "libcrypto", "libstdc++"] {
            assert!(!said.contains(library), "{program} needs {library}");
        }
    }
}
