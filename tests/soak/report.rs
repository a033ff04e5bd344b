//! What was asked and answered, and what of it was wrong.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use crate::{
    oracle::{Asked, Said},
    scene::Outcome,
};

/// So many wrong answers are told in full.
const TOLD: usize = 20;

pub(crate) struct Report {
    started: Instant,
    ended: Instant,
    counts: BTreeMap<(&'static str, &'static str), Row>,
    wrong: Vec<Wrong>,
    wrong_in_all: u64,
}

#[derive(Clone, Copy, Default)]
struct Row {
    accepted: u64,
    rejected: u64,
    undecided: u64,
    longest: Duration,
}

pub(crate) struct Wrong {
    pub(crate) mode: &'static str,
    pub(crate) label: &'static str,
    pub(crate) what: &'static str,
    pub(crate) reason: String,
    pub(crate) asked: Asked,
}

impl Report {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            ended: started,
            counts: BTreeMap::new(),
            wrong: Vec::new(),
            wrong_in_all: 0,
        }
    }

    pub(crate) fn count(
        &mut self,
        mode: &'static str,
        label: &'static str,
        said: Said,
        asked: Asked,
    ) {
        let row = self.counts.entry((mode, label)).or_default();
        *match said {
            Said::Accept => &mut row.accepted,
            Said::Reject => &mut row.rejected,
            Said::Undecided => &mut row.undecided,
        } += 1;
        row.longest = row.longest.max(asked.answered - asked.sent);
        self.ended = self.ended.max(asked.answered);
    }

    pub(crate) fn wrong(&mut self, wrong: Wrong) {
        self.wrong_in_all += 1;
        if self.wrong.len() < TOLD {
            self.wrong.push(wrong);
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (key, row) in other.counts {
            let sum = self.counts.entry(key).or_default();
            sum.accepted += row.accepted;
            sum.rejected += row.rejected;
            sum.undecided += row.undecided;
            sum.longest = sum.longest.max(row.longest);
        }
        self.started = self.started.min(other.started);
        self.ended = self.ended.max(other.ended);
        self.wrong_in_all += other.wrong_in_all;
        self.wrong.extend(other.wrong);
        self.wrong.sort_by_key(|wrong| wrong.asked.sent);
        self.wrong.truncate(TOLD);
    }

    /// No wrong answer, and of each kind of token at least one right one: a service that decides nothing is not sound.
    pub(crate) fn verdict(&self) -> Outcome {
        if self.wrong_in_all > 0 {
            return Err(format!("{} wrong answers", self.wrong_in_all).into());
        }
        for ((mode, label), row) in &self.counts {
            let decided = match *label {
                "good" | "good, of a Pod" => row.accepted > 0,
                _ => row.accepted + row.rejected > 0,
            };
            if !decided {
                return Err(
                    format!("{mode}: no token of the kind {label:?} was ever decided").into()
                );
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<26} {:<38} {:>12} {:>10} {:>10} {:>9}",
            "", "", "accepted", "rejected", "undecided", "longest"
        )?;
        let mut asked = 0;
        for ((mode, label), row) in &self.counts {
            let Row { accepted, rejected, undecided, longest } = row;
            let longest = format!("{:.2} s", longest.as_secs_f64());
            writeln!(
                f,
                "{mode:<26} {label:<38} {accepted:>12} {rejected:>10} {undecided:>10} {longest:>9}"
            )?;
            asked += accepted + rejected + undecided;
        }
        writeln!(
            f,
            "{asked} requests in {:.0} s, {} wrong answers",
            (self.ended - self.started).as_secs_f64(),
            self.wrong_in_all
        )?;
        for wrong in &self.wrong {
            let at = |time: Instant| (time - self.started).as_secs_f64();
            let Wrong { mode, label, what, reason, asked: Asked { sent, answered } } = wrong;
            writeln!(
                f,
                "  {mode}, token {label}, {:.2} to {:.2} s: {what} ({reason})",
                at(*sent),
                at(*answered)
            )?;
        }
        Ok(())
    }
}
