//! The table: rows of figures, their budgets, and the page that holds them.

use std::fmt::{self, Write as _};

/// What a figure counts.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    PerSecond,
    Micros,
    Millis,
    Megabytes,
    Percent,
}

/// What was promised.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    None,
    AtLeast(f64),
    AtMost(f64),
}

/// One figure, or why there is none.
#[derive(Clone)]
pub(crate) enum Cell {
    Empty,
    Figure(f64),
    /// A figure with a remark, such as a smaller load.
    Remarked(f64, &'static str),
    Words(&'static str),
}

/// One thing that was measured.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) spire: Cell,
    pub(crate) bare: Cell,
    pub(crate) ours: Cell,
    pub(crate) budget: Budget,
}

/// All rows so far. Each is printed as it comes.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn add(&mut self, row: Row) {
        if self.rows.is_empty() {
            println!("{HEAD}");
        }
        println!("{row}");
        self.rows.push(row);
    }

    /// The table as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for row in &self.rows {
            writeln!(text, "{row}").expect("a string takes everything");
        }
        text
    }

    /// How many rows have a budget, and how many keep it.
    pub(crate) fn kept(&self) -> (usize, usize) {
        let verdicts: Vec<bool> = self.rows.iter().filter_map(Row::keeps).collect();
        (verdicts.len(), verdicts.iter().filter(|kept| **kept).count())
    }
}

const HEAD: &str = "| what | SPIRE 1.15.3 | canned answers | Muster | beside SPIRE | budget | kept |\n\
                    |---|--:|--:|--:|--:|--:|:-:|";

impl Row {
    fn keeps(&self) -> Option<bool> {
        let ours = self.ours.figure()?;
        match self.budget {
            Budget::None => None,
            Budget::AtLeast(least) => Some(ours >= least),
            Budget::AtMost(most) => Some(ours <= most),
        }
    }

    /// How many times better than SPIRE.
    fn ratio(&self) -> Option<f64> {
        let (spire, ours) = (self.spire.figure()?, self.ours.figure()?);
        let ratio = match self.unit {
            Unit::PerSecond => ours / spire,
            _ => spire / ours,
        };
        ratio.is_finite().then_some(ratio)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = match self.ratio() {
            Some(ratio) if ratio >= 10.0 => format!("{ratio:.0}×"),
            Some(ratio) => format!("{ratio:.1}×"),
            None => String::new(),
        };
        let budget = match self.budget {
            Budget::None => String::new(),
            Budget::AtLeast(least) => format!("≥ {}", self.unit.show(least)),
            Budget::AtMost(most) => format!("≤ {}", self.unit.show(most)),
        };
        let kept = match self.keeps() {
            None => "",
            Some(true) => "yes",
            Some(false) => "**no**",
        };
        let [spire, bare, ours] = [&self.spire, &self.bare, &self.ours].map(|cell| cell.show(self.unit));
        write!(
            f,
            "| {} | {spire} | {bare} | {ours} | {ratio} | {budget} | {kept} |",
            self.what
        )
    }
}

impl Cell {
    fn figure(&self) -> Option<f64> {
        match self {
            Self::Figure(figure) | Self::Remarked(figure, _) => Some(*figure),
            Self::Empty | Self::Words(_) => None,
        }
    }

    fn show(&self, unit: Unit) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Figure(figure) => unit.show(*figure),
            Self::Remarked(figure, remark) => format!("{} ({remark})", unit.show(*figure)),
            Self::Words(words) => (*words).to_owned(),
        }
    }
}

impl Unit {
    fn show(self, figure: f64) -> String {
        let name = match self {
            Self::PerSecond => return format!("{}/s", grouped(figure)),
            Self::Percent => return format!("{figure:.2} %"),
            Self::Micros => "us",
            Self::Millis => "ms",
            Self::Megabytes => "MB",
        };
        match figure {
            figure if figure >= 1_000.0 => format!("{} {name}", grouped(figure)),
            figure if figure >= 100.0 => format!("{figure:.0} {name}"),
            figure if figure >= 10.0 => format!("{figure:.1} {name}"),
            figure => format!("{figure:.2} {name}"),
        }
    }
}

/// Thousands apart.
fn grouped(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
