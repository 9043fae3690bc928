//! Waiting without a fixed sleep.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Tries until an attempt succeeds, at first often and then less often.
///
/// # Errors
///
/// The last failure, when `deadline` has passed since the call. `what` names what was waited for.
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() + pause > deadline => {
                return Err(error)
                    .with_context(|| format!("not within {} s: {what}", deadline.as_secs_f32()));
            }
            Err(_) => thread::sleep(pause),
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{anyhow, ensure};

    use super::*;

    #[test]
    fn a_success_ends_the_wait() {
        let mut attempts = 0;
        let outcome = eventually("third attempt", Duration::from_secs(60), || {
            attempts += 1;
            ensure!(attempts == 3, "early");
            Ok(attempts)
        });
        assert_eq!(outcome.unwrap(), 3);
    }

    #[test]
    fn a_missed_deadline_shows_what_was_waited_for_and_the_last_failure() {
        let failure =
            eventually("the sun", Duration::from_millis(30), || Err::<(), _>(anyhow!("dark")));
        assert_eq!(format!("{:#}", failure.unwrap_err()), "not within 0.03 s: the sun: dark");
    }
}
