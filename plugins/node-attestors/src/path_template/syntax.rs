//! The language: text with `{{ … }}` in it.

use super::function::{Argument, Function};
use super::{Part, TemplateError};

/// The most functions on one value.
const MOST_FUNCTIONS: usize = 8;

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Variable(String),
    Name(String),
    Argument(Argument),
    Pipe,
}

pub(super) fn parts(text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        let (tokens, after) = tokens(after)?;
        parts.push(insert(&tokens)?);
        rest = after;
    }
    if rest.contains("}}") {
        return Err(wrong("a }} without its {{"));
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

/// `.Variable`, or `function arguments .Variable`; then any number of `| function arguments`.
fn insert(tokens: &[Token]) -> Result<Part, TemplateError> {
    let mut calls = tokens.split(|token| *token == Token::Pipe);
    let head = calls.next().unwrap_or_default();
    let (variable, mut functions) = match head {
        [Token::Variable(variable)] => (variable, Vec::new()),
        [call @ .., Token::Variable(variable)] => (variable, vec![function(call)?]),
        _ => return Err(wrong("each {{ }} begins with a .Variable, or a function of one")),
    };
    for call in calls {
        functions.push(function(call)?);
    }
    if functions.len() > MOST_FUNCTIONS {
        return Err(wrong("more functions on one value than are applied"));
    }
    Ok(Part::Insert {
        variable: variable.clone(),
        functions,
    })
}

fn function(call: &[Token]) -> Result<Function, TemplateError> {
    let [Token::Name(name), arguments @ ..] = call else {
        return Err(wrong("a function's name must stand before its arguments"));
    };
    let arguments: Option<Vec<Argument>> = arguments
        .iter()
        .map(|token| match token {
            Token::Argument(argument) => Some(argument.clone()),
            _ => None,
        })
        .collect();
    arguments
        .and_then(|arguments| Function::new(name, arguments))
        .ok_or_else(|| {
            wrong(
                "a function that is not known, or has other arguments; there are lower, upper, trimPrefix \"P\", \
                 trimSuffix \"S\", replace \"OLD\" \"NEW\", trunc N, sha256sum",
            )
        })
}

/// The tokens up to `}}`, and what stands behind it.
fn tokens(text: &str) -> Result<(Vec<Token>, &str), TemplateError> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(' ');
        if let Some(after) = rest.strip_prefix("}}") {
            return Ok((found, after));
        }
        let first = rest.chars().next().ok_or_else(|| wrong("a {{ without its }}"))?;
        let (token, after) = match first {
            '|' => (Token::Pipe, &rest[1..]),
            '"' => {
                let (text, after) = rest[1..]
                    .split_once('"')
                    .ok_or_else(|| wrong("a text without its end"))?;
                if text.contains('\\') {
                    return Err(wrong("texts have no escapes"));
                }
                (Token::Argument(Argument::Text(text.to_owned())), after)
            }
            '.' => {
                let (name, after) = word(&rest[1..]);
                (Token::Variable(name.to_owned()), after)
            }
            '0'..='9' => {
                let (digits, after) = word(rest);
                let number = digits.parse().map_err(|_| wrong("a number that is none"))?;
                (Token::Argument(Argument::Number(number)), after)
            }
            _ => {
                let (name, after) = word(rest);
                (Token::Name(name.to_owned()), after)
            }
        };
        if matches!(&token, Token::Variable(name) | Token::Name(name) if name.is_empty()) {
            return Err(wrong("a character that has no meaning in {{ }}"));
        }
        found.push(token);
        rest = after;
    }
}

/// Letters, digits, `_`, `-` and `.` from the beginning.
fn word(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c)))
        .unwrap_or(text.len());
    text.split_at(end)
}

fn wrong(text: &str) -> TemplateError {
    TemplateError::Syntax(text.to_owned())
}
