//! The table at the end.

use std::{fmt, time::Duration};

/// What was measured, against what was asked for.
#[derive(Default)]
pub(crate) struct Figures {
    rows: Vec<[String; 4]>,
}

impl Figures {
    /// A time without a limit.
    pub(crate) fn note(&mut self, what: impl Into<String>, time: Duration) {
        self.rows.push([what.into(), shown(time), String::new(), String::new()]);
    }

    /// A time as a multiple of another, which should not exceed a limit.
    pub(crate) fn ratio(
        &mut self,
        what: impl Into<String>,
        time: Duration,
        base: Duration,
        limit: f64,
    ) {
        let ratio = time.as_secs_f64() / base.as_secs_f64();
        let verdict = verdict(ratio <= limit);
        self.rows.push([
            what.into(),
            format!("{} ({} : 1)", shown(time), round(ratio)),
            format!("≤ {} : 1", round(limit)),
            verdict,
        ]);
    }

    /// A number that should not fall below a limit.
    pub(crate) fn at_least(&mut self, what: impl Into<String>, value: f64, limit: f64) {
        let verdict = verdict(value >= limit);
        self.rows.push([what.into(), round(value), format!("≥ {}", round(limit)), verdict]);
    }

    /// A number that should not exceed a limit.
    pub(crate) fn at_most(&mut self, what: impl Into<String>, value: f64, limit: f64) {
        let verdict = verdict(value <= limit);
        self.rows.push([what.into(), round(value), format!("≤ {}", round(limit)), verdict]);
    }

    /// Anything else.
    pub(crate) fn say(&mut self, what: impl Into<String>, measured: String) {
        self.rows.push([what.into(), measured, String::new(), String::new()]);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | measured | limit | |\n| --- | --- | --- | --- |")?;
        for [what, measured, limit, verdict] in &self.rows {
            writeln!(f, "| {what} | {measured} | {limit} | {verdict} |")?;
        }
        Ok(())
    }
}

fn verdict(held: bool) -> String {
    if held { "holds" } else { "FALLS SHORT" }.to_owned()
}

/// A number with two places at most.
pub(crate) fn round(value: f64) -> String {
    format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn shown(time: Duration) -> String {
    format!("{:.0} µs", time.as_secs_f64() * 1e6)
}

/// The middle of some times.
pub(crate) fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
