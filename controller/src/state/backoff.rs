//! Growing delays with jitter, without a last attempt: for each object that fails, and for each watch.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_mins(5);

/// Failures by object. They are forgotten when the object succeeds.
#[derive(Default)]
pub(crate) struct Backoff(Mutex<HashMap<String, u32>>);

impl Backoff {
    /// Counts one more failure of `object`. Returns how long to wait, at least `least`.
    pub(crate) fn failed(&self, object: &str, least: Duration) -> Duration {
        let mut failures = self.lock();
        let count = failures.entry(object.into()).or_default();
        *count = count.saturating_add(1);
        delay(*count, random()).max(least)
    }

    /// How many times in a row `object` has failed.
    pub(crate) fn failures(&self, object: &str) -> u32 {
        self.lock().get(object).copied().unwrap_or_default()
    }

    /// Forgets the failures of `object`.
    pub(crate) fn succeeded(&self, object: &str) {
        self.lock().remove(object);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The delays after which a failed watch is opened again. They are short, because changes are missed until then.
///
/// kube's default waits up to a minute after the few failures that a restart of the API server causes.
#[derive(Default)]
pub(crate) struct Reopening {
    failures: u32,
    last: Option<Instant>,
}

/// The longest delay of a watch.
const LONGEST_UNHEARD: Duration = Duration::from_secs(5);

/// How long a watch must work before its delays start from the shortest again.
const FORGOTTEN: Duration = Duration::from_mins(1);

impl Reopening {
    /// Counts one more failure. Returns how long to wait. A delivered event does not reset the delay: a watch that
    /// lists and then fails, again and again, would list without a pause.
    pub(crate) fn failed(&mut self) -> Duration {
        if self.last.is_none_or(|last| last.elapsed() > FORGOTTEN) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.last = Some(Instant::now());
        delay(self.failures, random()).min(LONGEST_UNHEARD)
    }
}

/// A random number. Not for secrets.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Doubles with each failure. `random` takes off up to a quarter, so that objects do not retry at the same moment.
fn delay(failures: u32, random: u64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << (failures.saturating_sub(1)).min(16)).min(LONGEST);
    doubled - doubled.mul_f64((random % 1024) as f64 / 4096.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_limit_and_a_success_resets_them() {
        assert_eq!(delay(1, 0), FIRST);
        assert_eq!(delay(3, 0), FIRST * 4);
        assert_eq!(delay(u32::MAX, 0), LONGEST);
        assert!((FIRST * 3 / 4..FIRST).contains(&delay(1, 1023)));

        let backoff = Backoff::default();
        let asked = Duration::from_secs(30);
        assert_eq!(backoff.failed("prod/db", asked), asked);
        assert!(backoff.failed("prod/db", Duration::ZERO) <= FIRST * 2);
        assert_eq!(backoff.failures("prod/db"), 2);
        backoff.succeeded("prod/db");
        assert_eq!(backoff.failures("prod/db"), 0);
    }

    #[test]
    fn a_watch_that_keeps_failing_is_still_opened_again_soon() {
        let mut reopening = Reopening::default();
        let delays: Vec<_> = (0..20).map(|_| reopening.failed()).collect();
        assert!(delays[0] <= FIRST && delays[19] >= LONGEST_UNHEARD * 3 / 4);
        assert!(delays.iter().all(|delay| *delay <= LONGEST_UNHEARD), "{delays:?}");
    }
}
