//! Searches the output of every controller in all tests for forbidden texts, see [`marker`].

use std::{
    ops::{Deref, DerefMut},
    process::{Command, ExitStatus},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bulla_tests::Controller;
use serde_json::Value;

use crate::{api::Api, marker};

/// A controller that logs at the most detailed level. Its log and metrics are searched before it stops, when it is
/// dropped, and on request.
pub(crate) struct Searched {
    controller: Controller,
    /// How many bytes of its log have been searched.
    done: Mutex<u64>,
}

impl Searched {
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        command.env("RUST_LOG", "trace");
        Ok(Self { controller: Controller::start(command)?, done: Mutex::default() })
    }

    pub(crate) fn restart(&mut self) -> Result<()> {
        self.search()?;
        self.controller.restart()
    }

    pub(crate) fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.search()?;
        self.controller.stop(deadline)
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        self.search()?;
        self.controller.kill()
    }

    /// Fails if it has printed a forbidden text.
    pub(crate) fn search(&self) -> Result<()> {
        none(&self.found()?)
    }

    /// Where forbidden texts are, in its log since the last search and in its metrics.
    pub(crate) fn found(&self) -> Result<Vec<String>> {
        let mut places = self.found_in_log()?;
        // A stopped or paused controller serves no metrics.
        if let Ok((_, metrics)) = self.controller.get("/metrics") {
            places.extend(marker::is_in(&metrics).then(|| "the metrics".to_owned()));
        }
        Ok(places)
    }

    fn found_in_log(&self) -> Result<Vec<String>> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let log = self.controller.log_since(*done)?;
        // The last line may be incomplete.
        let end = log.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        *done += u64::try_from(end)?;
        let log = String::from_utf8_lossy(&log[..end]);
        if !marker::is_in(&log) {
            return Ok(Vec::new());
        }
        // No more than a person reads.
        let lines = log.lines().filter(|line| marker::is_in(line)).take(5);
        Ok(lines.map(|line| format!("the log at {}", place(line))).collect())
    }
}

impl Deref for Searched {
    type Target = Controller;

    fn deref(&self) -> &Controller {
        &self.controller
    }
}

impl DerefMut for Searched {
    fn deref_mut(&mut self) -> &mut Controller {
        &mut self.controller
    }
}

impl Drop for Searched {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let running = self.search();
        // The end of its log is written while it stops.
        let _ = self.controller.stop(Duration::from_secs(5));
        if let Err(error) = running.and_then(|()| self.search()) {
            panic!("{error:#}");
        }
    }
}

/// Time, level and module of a line of the log, without forbidden texts.
fn place(line: &str) -> String {
    let words = line.split_whitespace().take(3).take_while(|word| !marker::is_in(word));
    words.collect::<Vec<_>>().join(" ")
}

/// Fails if Events or statuses contain a forbidden text. Searches one namespace or all.
pub(crate) fn search_objects(api: &Api, namespace: Option<&str>) -> Result<()> {
    none(&found_in_objects(api, namespace)?)
}

/// The Events and statuses that contain a forbidden text.
pub(crate) fn found_in_objects(api: &Api, namespace: Option<&str>) -> Result<Vec<String>> {
    let said = said_in_objects(api, namespace)?;
    Ok(said.into_iter().filter(|(_, text)| marker::is_in(text)).map(|(place, _)| place).collect())
}

/// The text of all Events and statuses, each with the name of its place.
pub(crate) fn said_in_objects(api: &Api, namespace: Option<&str>) -> Result<Vec<(String, String)>> {
    let within = namespace.map_or_else(String::new, |name| format!("namespaces/{name}/"));
    let list = |path: &str| {
        let list = api.get(path)?;
        list["items"].as_array().cloned().with_context(|| format!("no list at {path}"))
    };
    let events = list(&format!("/apis/events.k8s.io/v1/{within}events"))?;
    let events = events.iter().map(|event| {
        (
            format!(
                "the Event {} of {}",
                event["reason"].as_str().unwrap_or_default(),
                named(event)
            ),
            event.to_string(),
        )
    });
    let mut objects = list(&format!("/apis/bulla.dev/v1alpha1/{within}sealedsecrets"))?;
    objects.extend(list(&format!("/apis/bulla.dev/v1alpha1/{within}rekeys"))?);
    let statuses = objects
        .iter()
        .map(|object| (format!("the status of {}", named(object)), object["status"].to_string()));
    Ok(events.chain(statuses).collect())
}

fn named(object: &Value) -> String {
    let field = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", field("namespace"), field("name"))
}

/// Fails if there are places. Prints the places, but not the texts.
pub(crate) fn none(places: &[String]) -> Result<()> {
    ensure!(places.is_empty(), "forbidden texts are in {places:#?}");
    Ok(())
}
