//! `docs/threats.md` names the test against each threat, and `docs/interop.md` the stories with SPIRE; one that is renamed or gone would leave a
//! promise without proof.

use std::fs;

use muster_tests::root;

#[test]
fn every_test_that_the_page_of_threats_names_is_there() {
    let page = fs::read_to_string(root().join("docs/threats.md")).unwrap();
    let mut named = 0;
    // Code stands between backquotes: every other piece.
    for (file, test) in page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once(": "))
    {
        let source = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(
            source.contains(&format!("fn {test}()")),
            "{file} has no test {test}"
        );
        named += 1;
    }
    println!("figure: {named} tests against threats");
    assert!(named > 50, "{named}: the page is read wrongly");
}

#[test]
fn every_story_with_spire_that_its_page_names_is_there() {
    let page = fs::read_to_string(root().join("docs/interop.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let named: Vec<&str> = rows
        .flat_map(|row| row.split('`').skip(1).step_by(2))
        .filter(|code| !code.contains('/'))
        .collect();
    for module in &named {
        let file = format!("{}.rs", module.replace("::", "/"));
        let is_there = |suite: &str| root().join("tests").join(suite).join(&file).exists();
        assert!(
            ["interop", "it"].into_iter().any(is_there),
            "no story is in {module}"
        );
    }
    assert!(named.len() > 30, "{named:?}: the page is read wrongly");
}
