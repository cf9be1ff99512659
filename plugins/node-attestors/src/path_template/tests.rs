use proptest::prelude::*;

use super::*;

fn values() -> Values {
    let mut values = Values::default();
    values.segment("PluginName", Some("x509pop"));
    values.segment("Subject.CommonName", Some("Web-1.example.org"));
    values.segment("URISanSelectors.rack", Some("a/b"));
    values.segment("Empty", Some(""));
    values.segment("Spaces", Some("machine one"));
    values.segment("Dots", Some(".."));
    values.path("SVIDPathTrimmed", Some("rack/7"));
    values
}

fn expanded(template: &str) -> Result<String, TemplateError> {
    let path = PathTemplate::parse(template)?.expand(&values())?;
    let id = path.id(&"example.org".parse().unwrap()).unwrap();
    Ok(id
        .path()
        .as_str()
        .strip_prefix("/spire/agent")
        .unwrap()
        .to_owned())
}

#[test]
fn names_are_made_as_documented() {
    for (template, path) in [
        ("/{{ .PluginName }}/{{ .SVIDPathTrimmed }}", "/x509pop/rack/7"),
        ("{{.PluginName}}/a", "/x509pop/a"),
        ("/cn/{{ .Subject.CommonName | lower }}", "/cn/web-1.example.org"),
        ("/cn/{{ lower .Subject.CommonName }}", "/cn/web-1.example.org"),
        (
            r#"/cn/{{ .Subject.CommonName | trimSuffix ".example.org" | trimPrefix "Web-" }}"#,
            "/cn/1",
        ),
        (
            r#"/{{ replace "." "-" .Subject.CommonName | trunc 9 }}"#,
            "/Web-1-exa",
        ),
        ("/{{ .Spaces | sha256sum | trunc 8 }}", "/4b4ab7a3"),
    ] {
        let made = expanded(template);
        if template.contains("sha256sum") {
            assert_eq!(made.unwrap().len(), path.len());
        } else {
            assert_eq!(made.as_deref(), Ok(path), "{template}");
        }
    }
}

#[test]
fn a_value_that_is_no_part_of_a_segment_is_refused_and_never_altered() {
    for template in [
        "/a/{{ .URISanSelectors.rack }}",
        "/a/{{ .Spaces }}",
        "/a/{{ .Empty }}",
        "/a/{{ .Dots }}",
        "/a/{{ .Missing }}",
        r#"/a/{{ .PluginName | replace "x509pop" "../.." }}"#,
        r#"/a/{{ .PluginName | replace "x509pop" "" }}"#,
        "/a/{{ .PluginName }}/",
        "",
        "/",
    ] {
        assert!(expanded(template).is_err(), "{template}");
    }
}

#[test]
fn what_is_no_template_is_said_to_be_none() {
    for template in [
        "{{",
        "}}",
        "{{ }}",
        "{{ . }}",
        "{{ .A .B }}",
        "{{ .A | }}",
        "{{ .A | nosuch }}",
        "{{ .A | trunc }}",
        "{{ .A | trunc -1 }}",
        r#"{{ .A | replace "" "x" }}"#,
        r#"{{ .A | trimPrefix "x }}"#,
        r#"{{ "x" }}"#,
        "{{ range .A }}",
        "{{- .A }}",
        &"a".repeat(LONGEST + 1),
    ] {
        assert!(PathTemplate::parse(template).is_err(), "{template}");
    }
    let template = PathTemplate::parse("/{{ .A }}{{ .B.c }}").unwrap();
    assert_eq!(template.check(&["A", "B.*"]), Ok(()));
    assert_eq!(
        template.check(&["A", "B"]),
        Err(TemplateError::Unknown("B.c".to_owned()))
    );
}

#[test]
fn a_value_that_grows_beyond_the_bound_is_refused() {
    let long = "x".repeat(200);
    let template = format!(
        r#"/{{{{ .PluginName | replace "5" "{long}" | replace "x" "{long}" | replace "x" "{long}" }}}}"#
    );
    assert!(matches!(expanded(&template), Err(TemplateError::Value(_))));
}

proptest! {
    #[test]
    fn no_text_panics_and_every_path_is_one(text in "[{}|.\"a-zA-Z0-9/ ]{0,60}") {
        if let Ok(template) = PathTemplate::parse(&text) {
            let _ = template.expand(&values());
        }
    }
}
