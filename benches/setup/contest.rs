//! Alternatives that run in turns, so that noise affects all of them alike and their ratios hold.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

/// Repeats an operation and returns the time that it took, without its preparation.
type Alternative<'a> = Box<dyn FnMut(usize) -> Duration + 'a>;

pub struct Contest<'a> {
    title: &'static str,
    repetitions: usize,
    alternatives: Vec<(&'static str, Alternative<'a>)>,
}

/// Nanoseconds for one repetition of each alternative.
pub struct Outcome(Vec<(&'static str, Vec<f64>)>);

impl<'a> Contest<'a> {
    /// Creates a contest whose turns have `repetitions`.
    pub fn new(title: &'static str, repetitions: usize) -> Self {
        Self { title, repetitions, alternatives: Vec::new() }
    }

    #[must_use]
    pub fn timed(
        mut self,
        name: &'static str,
        alternative: impl FnMut(usize) -> Duration + 'a,
    ) -> Self {
        self.alternatives.push((name, Box::new(alternative)));
        self
    }

    /// Adds an alternative without preparation.
    #[must_use]
    pub fn with<T>(self, name: &'static str, mut alternative: impl FnMut() -> T + 'a) -> Self {
        self.timed(name, move |repetitions| {
            let start = Instant::now();
            for _ in 0..repetitions {
                std::hint::black_box(alternative());
            }
            start.elapsed()
        })
    }

    /// Runs all alternatives for about `budget` and prints a table.
    pub fn run(mut self, budget: Duration) -> Outcome {
        let mut turns: Vec<_> =
            self.alternatives.iter().map(|(name, _)| (*name, Vec::new())).collect();
        let start = Instant::now();
        let mut warm = false;
        while !warm || start.elapsed() < budget {
            for ((_, alternative), (_, turns)) in self.alternatives.iter_mut().zip(&mut turns) {
                let elapsed = alternative(self.repetitions);
                if warm {
                    turns.push(elapsed.as_nanos() as f64 / self.repetitions as f64);
                }
            }
            warm = start.elapsed() > budget / 10;
        }
        for (_, turns) in &mut turns {
            turns.sort_by(f64::total_cmp);
        }
        let outcome = Outcome(turns);
        println!("{}", outcome.table(self.title));
        outcome
    }
}

impl Outcome {
    /// Returns the tenth percentile of an alternative's turns: steadier than the minimum, and
    /// almost free of noise.
    pub fn nanoseconds(&self, name: &str) -> f64 {
        self.percentile(name, 0.1)
    }

    fn percentile(&self, name: &str, part: f64) -> f64 {
        let (_, turns) =
            self.0.iter().find(|(known, _)| *known == name).expect("an alternative of that name");
        turns[((turns.len() - 1) as f64 * part) as usize]
    }

    fn table(&self, title: &str) -> String {
        let mut text = format!("\n{title}\n{:<44} {:>12} {:>12}\n", "", "10 % [ns]", "median [ns]");
        for (name, turns) in &self.0 {
            let median = turns[turns.len() / 2];
            writeln!(text, "{name:<44} {:>12.1} {median:>12.1}", self.nanoseconds(name))
                .expect("a String takes all");
        }
        text
    }
}

/// Prints a figure with its target.
pub fn compare(what: &str, figure: f64, sign: &str, target: f64) {
    let holds = if sign == "<=" { figure <= target } else { figure >= target };
    println!(
        "{} {what:<62} {figure:>8.2}  (target {sign} {target})",
        if holds { "  " } else { "!!" }
    );
}
