//! Counts of the answers, and the wrong ones in full.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use crate::{
    facts::{Asked, Decision},
    fixture::Outcome,
};

/// Upper bound of the wrong answers in the report.
const MAX_DETAILS: usize = 20;

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
    pub(crate) service: &'static str,
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
        service: &'static str,
        label: &'static str,
        decision: Decision,
        asked: Asked,
    ) {
        let row = self.counts.entry((service, label)).or_default();
        *match decision {
            Decision::Accept => &mut row.accepted,
            Decision::Reject => &mut row.rejected,
            Decision::Undecided => &mut row.undecided,
        } += 1;
        row.longest = row.longest.max(asked.answered - asked.sent);
        self.ended = self.ended.max(asked.answered);
    }

    pub(crate) fn wrong(&mut self, wrong: Wrong) {
        self.wrong_in_all += 1;
        if self.wrong.len() < MAX_DETAILS {
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
        self.wrong.truncate(MAX_DETAILS);
    }

    /// Fails on a wrong answer, or if a service has never decided about some kind of token.
    pub(crate) fn verdict(&self) -> Outcome {
        if self.wrong_in_all > 0 {
            return Err(format!("{} wrong answers", self.wrong_in_all).into());
        }
        for ((service, label), row) in &self.counts {
            let decided = match *label {
                "good" | "good, of a Pod" => row.accepted > 0,
                _ => row.accepted + row.rejected > 0,
            };
            if !decided {
                return Err(
                    format!("{service}: no token of the kind {label:?} was ever decided").into()
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
        for ((service, label), row) in &self.counts {
            let Row { accepted, rejected, undecided, longest } = row;
            let longest = format!("{:.2} s", longest.as_secs_f64());
            writeln!(
                f,
                "{service:<26} {label:<38} {accepted:>12} {rejected:>10} {undecided:>10} {longest:>9}"
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
            let Wrong { service, label, what, reason, asked: Asked { sent, answered } } = wrong;
            writeln!(
                f,
                "  {service}, token {label}, {:.2} to {:.2} s: {what} ({reason})",
                at(*sent),
                at(*answered)
            )?;
        }
        Ok(())
    }
}
