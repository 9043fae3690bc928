//! The kernel's figures about a process.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use bulla_tests::{Component, ControlPlane};

/// A process by its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self(pid)
    }

    /// This process.
    pub(crate) fn own() -> Self {
        Self(std::process::id())
    }

    /// User and system time of all its threads so far, in hundredths of a second. An error means that the process
    /// has ended.
    pub(crate) fn cpu(self) -> Result<Duration> {
        let stat = self.read("stat")?;
        let ticks = cpu_ticks(&stat).context("/proc/…/stat is not as proc(5) says")?;
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// The most memory that it has ever had in RAM.
    pub(crate) fn peak_rss_mib(self) -> Result<f64> {
        let status = self.read("status")?;
        let kib = peak_rss_kib(&status).context("/proc/…/status has no VmHWM")?;
        Ok(kib as f64 / 1024.0)
    }

    fn read(self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(path).with_context(|| format!("process {} has ended", self.0))
    }
}

/// The CPU time of all processes of a control plane so far.
pub(crate) fn control_plane_cpu(plane: &ControlPlane) -> Result<Duration> {
    let parts = [Component::ApiServer, Component::Etcd, Component::ControllerManager];
    let pids = parts.iter().filter_map(|part| plane.pid(*part));
    pids.map(|pid| Process::new(pid).cpu()).sum()
}

/// Fields 14 and 15, `utime` and `stime`. Field 2 is the name in parentheses, which may contain anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn peak_rss_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_after_a_strange_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 30 0 0 20 0 4 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(280));
        assert_eq!(cpu_ticks("42 (a) S 1"), None);
    }

    #[test]
    fn the_peak_is_read_in_kib() {
        assert_eq!(peak_rss_kib("Name:\tx\nVmHWM:\t   31244 kB\nVmRSS:\t 9 kB\n"), Some(31244));
    }

    #[test]
    fn this_process_can_be_measured() {
        assert!(Process::own().peak_rss_mib().unwrap() > 0.0);
        Process::own().cpu().unwrap();
        assert!(Process::new(u32::MAX).cpu().is_err());
    }
}
