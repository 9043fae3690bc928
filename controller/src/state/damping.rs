//! Slows down the checks of targets that keep changing.
//!
//! A few repairs within a minute are made immediately. If there are more, somebody else keeps writing the same
//! Secret. Repairs then wait, ten seconds at first and five minutes in the end, and the status names the writer.
//! Changes that need no repair, such as a label that another tool rewrites every second, slow the checks down too.
//! All of it is forgotten when the target is found unchanged.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::state::object_ref::ObjectRef;

const WINDOW: Duration = Duration::from_mins(1);
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// What had changed on a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// Something that the SealedSecret declares.
    Drift,
    /// Only something that the SealedSecret does not declare.
    Noise,
    /// The controller in charge: another one takes the SealedSecret back again and again.
    Takeover,
}

impl Disturbance {
    /// How many times within a minute are tolerated.
    const fn tolerated(self) -> usize {
        match self {
            Self::Drift | Self::Takeover => 3,
            Self::Noise => 10,
        }
    }
}

/// The recent history of targets that others changed.
#[derive(Default)]
pub(crate) struct Damping(Mutex<HashMap<ObjectRef, TargetHistory>>);

#[derive(Default)]
struct TargetHistory {
    recent: Vec<(Instant, Disturbance)>,
    pause: Option<Pause>,
}

#[derive(Clone, Copy)]
struct Pause {
    length: Duration,
    until: Instant,
}

impl Damping {
    /// Notes a disturbance. Returns how long to leave the object alone from now on, if at all.
    pub(crate) fn note(&self, object: &ObjectRef, found: Disturbance) -> Option<Duration> {
        self.note_at(object, found, Instant::now())
    }

    /// How much longer the object is left alone.
    pub(crate) fn pause(&self, object: &ObjectRef) -> Option<Duration> {
        let until = self.lock().get(object)?.pause?.until;
        Some(until.saturating_duration_since(Instant::now())).filter(|pause| !pause.is_zero())
    }

    /// Forgets an object whose target was found unchanged, or that is gone.
    pub(crate) fn forget(&self, object: &ObjectRef) {
        self.lock().remove(object);
    }

    fn note_at(&self, object: &ObjectRef, found: Disturbance, now: Instant) -> Option<Duration> {
        let mut histories = self.lock();
        let history = histories.entry(object.clone()).or_default();
        history.recent.retain(|(at, _)| now.saturating_duration_since(*at) < WINDOW);
        history.recent.push((now, found));
        let count = history.recent.iter().filter(|(_, other)| *other == found).count();
        if count <= found.tolerated() && history.pause.is_none() {
            return None;
        }
        let length =
            history.pause.map_or(FIRST_PAUSE, |pause| (pause.length * 2).min(LONGEST_PAUSE));
        history.pause = Some(Pause { length, until: now + length });
        Some(length)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef, TargetHistory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_drift_is_damped_more_and_more_until_it_ends() {
        let damping = Damping::default();
        let object = ObjectRef::from("prod/db");
        let start = Instant::now();
        let second = |second: u64| start + Duration::from_secs(second);
        let pauses: Vec<_> = (0..10)
            .map(|round| damping.note_at(&object, Disturbance::Drift, second(round)))
            .map(|pause| pause.map(|pause| pause.as_secs()))
            .collect();
        let expected = [
            None,
            None,
            None,
            Some(10),
            Some(20),
            Some(40),
            Some(80),
            Some(160),
            Some(300),
            Some(300),
        ];
        assert_eq!(pauses, expected);
        assert!(damping.pause(&object).is_some());
        damping.forget(&object);
        assert_eq!(damping.note_at(&object, Disturbance::Drift, second(10)), None);
    }

    #[test]
    fn rare_drift_is_never_damped() {
        let damping = Damping::default();
        let start = Instant::now();
        for round in 0..100 {
            let now = start + Duration::from_secs(30 * round);
            assert_eq!(damping.note_at(&"prod/db".into(), Disturbance::Drift, now), None);
        }
    }
}
