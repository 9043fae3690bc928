//! Wall and CPU time of work.

use std::{
    fmt,
    io::{Read, Seek},
    ops::Add,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    process::{Pid, WaitId, WaitIdOptions, waitid},
    time::{ClockId, clock_gettime},
};
use serde_json::{Value, json};

use crate::{process::Process, program::rounded};

/// The time of one run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { wall: self.wall + other.wall, cpu: self.cpu + other.cpu }
    }
}

/// The times of several runs of the same work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Costs(Vec<Cost>);

/// The best of several times, and the median.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) best: Duration,
    median: Duration,
}

impl Costs {
    pub(crate) fn push(&mut self, cost: Cost) {
        self.0.push(cost);
    }

    pub(crate) fn wall(&self) -> Summary {
        Summary::of(self.0.iter().map(|cost| cost.wall).collect())
    }

    pub(crate) fn cpu(&self) -> Summary {
        Summary::of(self.0.iter().map(|cost| cost.cpu).collect())
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"wall_ms": self.wall().to_json(), "cpu_ms": self.cpu().to_json()})
    }
}

impl Summary {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let nth = |index: usize| times.get(index).copied().unwrap_or_default();
        Self { best: nth(0), median: nth(times.len() / 2) }
    }

    fn to_json(self) -> Value {
        json!({"best": rounded(ms(self.best)), "median": rounded(ms(self.median))})
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = usize::from(self.best < Duration::from_millis(20));
        f.pad(&format!("{:.digits$} ({:.digits$})", ms(self.best), ms(self.median)))
    }
}

/// How many times the floor the figure is.
pub(crate) fn ratio(figure: Duration, floor: Duration) -> f64 {
    ms(figure) / ms(floor)
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Runs a program, which must succeed. Its CPU time is in hundredths of a second.
pub(crate) fn process(command: &mut Command) -> Result<Cost> {
    let mut said = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone()?);
    let start = Instant::now();
    let mut child = command.spawn().context("cannot start the program")?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
    // It stays as a zombie, so that its CPU time can be read.
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let wall = start.elapsed();
    let cpu = Process::new(child.id()).cpu();
    if !child.wait()?.success() {
        let mut text = String::new();
        said.rewind()?;
        said.read_to_string(&mut text)?;
        bail!("{} failed:\n{text}", command.get_program().display());
    }
    Ok(Cost { wall, cpu: cpu? })
}

/// Runs `work` in this thread.
pub(crate) fn in_this_thread(work: impl FnOnce() -> Result<()>) -> Result<Cost> {
    let cpu = || -> Result<Duration> { Ok(clock_gettime(ClockId::ThreadCPUTime).try_into()?) };
    let (start, cpu_before) = (Instant::now(), cpu()?);
    work()?;
    Ok(Cost { wall: start.elapsed(), cpu: cpu()? - cpu_before })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_timed_and_must_succeed() {
        let cost = process(Command::new("sleep").arg("0.05")).unwrap();
        assert!(cost.wall >= Duration::from_millis(50) && cost.cpu <= cost.wall);
        let error = process(Command::new("sh").args(["-c", "echo why >&2; exit 1"])).unwrap_err();
        assert_eq!(error.to_string(), "sh failed:\nwhy\n");
    }

    #[test]
    fn a_summary_is_the_best_and_the_median() {
        let times = [5, 1, 4, 9, 2].map(Duration::from_millis);
        assert_eq!(Summary::of(times.into()).to_string(), "1.0 (4.0)");
    }
}
