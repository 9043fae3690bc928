//! The queue of objects to work on.
//!
//! - One worker at a time works on an object. If the object changes in the meantime, it is queued again.
//! - Changed objects go before the backlog, which holds retries, objects from a list, and the daily check.
//! - In both lanes namespaces take turns, so that a namespace with many objects does not keep the others waiting.
//! - The backlog never gets all workers, so that objects whose requests hang do not delay a change.
//!
//! kube's own controller has a single queue, ordered by time, and does not report its length.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::state::object_ref::ObjectRef;

/// The delay of an object whose worker ended without a result.
const AFTER_A_PANIC: Duration = Duration::from_mins(1);

/// How urgent an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// To be checked again.
    Backlog,
    /// New or changed.
    Changed,
}

/// What happens to an object after its worker is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing, until the object changes.
    Settled,
    /// It is checked again after this time, or when it changes.
    After(Duration),
}

/// How many objects wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// In the lane of changed objects.
    pub(crate) changed: usize,
    /// In the backlog.
    pub(crate) backlog: usize,
    /// Until their delay ends.
    pub(crate) delayed: usize,
}

/// The objects that wait for a worker.
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    pushed: Notify,
}

impl Queue {
    /// A queue for this many workers.
    pub(crate) fn new(workers: usize) -> Self {
        let backlog_workers = (workers * 3 / 4).max(1);
        Self { state: Mutex::new(QueueState::new(backlog_workers)), pushed: Notify::new() }
    }

    /// Adds an object, or moves it to the more urgent lane. A push to the backlog does not shorten a delay.
    pub(crate) fn push(&self, object: ObjectRef, lane: Lane) {
        self.lock().push(object, lane);
        self.pushed.notify_one();
    }

    /// Adds an object to the backlog, to be compared in full whatever the caches show.
    pub(crate) fn push_check(&self, object: ObjectRef) {
        let mut state = self.lock();
        state.checks.insert(object.clone());
        state.push(object, Lane::Backlog);
        drop(state);
        self.pushed.notify_one();
    }

    /// Waits for the next object.
    pub(crate) async fn pop(self: &Arc<Self>) -> Taken {
        loop {
            let next_due = {
                let mut state = self.lock();
                if let Some((object, lane)) = state.pop(Instant::now()) {
                    let is_check = state.checks.remove(&object);
                    return Taken { queue: self.clone(), object, lane, is_check, next: None };
                }
                state.next_due()
            };
            let due = async {
                match next_due {
                    Some(instant) => tokio::time::sleep_until(instant).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.pushed.notified() => {}
                () = due => {}
            }
        }
    }

    /// Forgets all objects, except those that are being worked on.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        let active = std::mem::take(&mut state.active);
        *state = QueueState { active, ..QueueState::new(state.backlog_workers) };
    }

    /// How many objects wait.
    pub(crate) fn depth(&self) -> Depth {
        let state = self.lock();
        let changed = state.queued.values().filter(|lane| **lane == Lane::Changed).count();
        let backlog = state.queued.len() - changed;
        Depth { changed, backlog, delayed: state.due.len() }
    }

    fn finish(&self, object: &ObjectRef, lane: Lane, next: Next) {
        self.lock().finish(object, lane, next, Instant::now());
        self.pushed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // No code that holds the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An object that is being worked on. No other worker gets it until this is dropped.
pub(crate) struct Taken {
    queue: Arc<Queue>,
    pub(crate) object: ObjectRef,
    /// Whether the object is to be compared in full.
    pub(crate) is_check: bool,
    lane: Lane,
    next: Option<Next>,
}

impl Taken {
    /// Ends the work on the object.
    pub(crate) fn finish(mut self, next: Next) {
        self.next = Some(next);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.queue.finish(&self.object, self.lane, self.next.unwrap_or(Next::After(AFTER_A_PANIC)));
    }
}

/// Takes objects from `queue` and handles them, up to `workers` at a time, until `stopped`.
pub(crate) async fn work<F>(
    queue: &Arc<Queue>,
    workers: usize,
    handle: impl Fn(Taken) -> F,
    mut stopped: impl Future<Output = ()> + Unpin,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = tokio::task::JoinSet::new();
    loop {
        let taken = tokio::select! {
            biased;
            () = &mut stopped => break,
            Some(ended) = running.join_next(), if !running.is_empty() => {
                if let Err(error) = ended {
                    // The object is queued again with a delay. The text of the panic could quote a value.
                    tracing::error!(is_panic = error.is_panic(), "a worker panicked or was cancelled");
                }
                continue;
            }
            taken = queue.pop(), if running.len() < workers => taken,
        };
        running.spawn(handle(taken));
    }
    // Work in flight ends. Every write names the state that it was decided on.
    while running.join_next().await.is_some() {}
}

struct QueueState {
    /// The lane of each waiting object. Other entries in the lanes are outdated.
    queued: HashMap<ObjectRef, Lane>,
    changed: NamespaceTurns,
    backlog: NamespaceTurns,
    delayed: BTreeSet<(Instant, ObjectRef)>,
    due: HashMap<ObjectRef, Instant>,
    checks: HashSet<ObjectRef>,
    /// The objects that are being worked on, and the lane in which each was pushed in the meantime.
    active: HashMap<ObjectRef, Option<Lane>>,
    active_backlog: usize,
    backlog_workers: usize,
}

impl QueueState {
    fn new(backlog_workers: usize) -> Self {
        Self {
            queued: HashMap::new(),
            changed: NamespaceTurns::default(),
            backlog: NamespaceTurns::default(),
            delayed: BTreeSet::new(),
            due: HashMap::new(),
            checks: HashSet::new(),
            active: HashMap::new(),
            active_backlog: 0,
            backlog_workers,
        }
    }

    fn push(&mut self, object: ObjectRef, lane: Lane) {
        if let Some(came) = self.active.get_mut(&object) {
            *came = (*came).max(Some(lane));
            return;
        }
        match lane {
            Lane::Backlog if self.due.contains_key(&object) => return,
            Lane::Backlog => {}
            Lane::Changed => self.undelay(&object),
        }
        if self.queued.get(&object).is_some_and(|queued| *queued >= lane) {
            return;
        }
        self.queued.insert(object.clone(), lane);
        self.turns(lane).push(object);
    }

    fn pop(&mut self, now: Instant) -> Option<(ObjectRef, Lane)> {
        while let Some((instant, object)) = self.delayed.first().cloned()
            && instant <= now
        {
            self.undelay(&object);
            self.push(object, Lane::Backlog);
        }
        let lanes: &[Lane] = if self.active_backlog < self.backlog_workers {
            &[Lane::Changed, Lane::Backlog]
        } else {
            &[Lane::Changed]
        };
        for lane in lanes.iter().copied() {
            while let Some(object) = self.turns(lane).pop() {
                // Skip an object that was moved to the other lane or taken from there.
                if self.queued.get(&object) == Some(&lane) {
                    self.queued.remove(&object);
                    self.active.insert(object.clone(), None);
                    self.active_backlog += usize::from(lane == Lane::Backlog);
                    return Some((object, lane));
                }
            }
        }
        None
    }

    fn finish(&mut self, object: &ObjectRef, lane: Lane, next: Next, now: Instant) {
        let came = self.active.remove(object).flatten();
        self.active_backlog =
            self.active_backlog.saturating_sub(usize::from(lane == Lane::Backlog));
        match (came, next) {
            (Some(Lane::Changed), _) => self.push(object.clone(), Lane::Changed),
            (_, Next::After(delay)) => {
                self.undelay(object);
                self.delayed.insert((now + delay, object.clone()));
                self.due.insert(object.clone(), now + delay);
            }
            (Some(Lane::Backlog), Next::Settled) => self.push(object.clone(), Lane::Backlog),
            (None, Next::Settled) => {}
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.delayed.first().map(|(instant, _)| *instant)
    }

    fn undelay(&mut self, object: &ObjectRef) {
        if let Some(instant) = self.due.remove(object) {
            self.delayed.remove(&(instant, object.clone()));
        }
    }

    fn turns(&mut self, lane: Lane) -> &mut NamespaceTurns {
        match lane {
            Lane::Backlog => &mut self.backlog,
            Lane::Changed => &mut self.changed,
        }
    }
}

/// Objects by namespace; namespaces take turns.
#[derive(Default)]
struct NamespaceTurns {
    order: VecDeque<Arc<str>>,
    objects: HashMap<Arc<str>, VecDeque<ObjectRef>>,
}

impl NamespaceTurns {
    fn push(&mut self, object: ObjectRef) {
        let namespace = object.namespace.clone();
        let objects = self.objects.entry(namespace.clone()).or_insert_with(|| {
            self.order.push_back(namespace);
            VecDeque::new()
        });
        objects.push_back(object);
    }

    fn pop(&mut self) -> Option<ObjectRef> {
        let namespace = self.order.pop_front()?;
        let objects = self.objects.get_mut(&namespace)?;
        let object = objects.pop_front();
        if objects.is_empty() {
            self.objects.remove(&namespace);
        } else {
            self.order.push_back(namespace);
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> QueueState {
        QueueState::new(12)
    }

    fn pushed(objects: &[(&str, Lane)]) -> QueueState {
        let mut state = state();
        for (object, lane) in objects {
            state.push((*object).into(), *lane);
        }
        state
    }

    fn popped(state: &mut QueueState) -> Vec<String> {
        let now = Instant::now();
        std::iter::from_fn(|| state.pop(now)).map(|(object, _)| object.to_string()).collect()
    }

    #[test]
    fn changes_go_before_the_backlog_and_namespaces_take_turns() {
        let mut state = pushed(&[
            ("a/1", Lane::Backlog),
            ("a/2", Lane::Backlog),
            ("a/3", Lane::Backlog),
            ("b/1", Lane::Backlog),
            ("c/1", Lane::Changed),
            ("c/2", Lane::Changed),
            ("a/4", Lane::Changed),
        ]);
        assert_eq!(popped(&mut state), ["c/1", "a/4", "c/2", "a/1", "b/1", "a/2", "a/3"]);
    }

    #[test]
    fn an_object_is_queued_once_and_moves_to_the_more_urgent_lane() {
        let mut state = pushed(&[
            ("a/1", Lane::Backlog),
            ("a/2", Lane::Changed),
            ("a/1", Lane::Changed),
            ("a/2", Lane::Backlog),
        ]);
        assert_eq!(popped(&mut state), ["a/2", "a/1"]);
        assert!(state.queued.is_empty());
    }

    #[test]
    fn a_change_during_the_work_on_an_object_waits_for_its_end() {
        let mut state = pushed(&[("a/1", Lane::Changed)]);
        let now = Instant::now();
        let (object, lane) = state.pop(now).unwrap();
        state.push("a/1".into(), Lane::Changed);
        assert_eq!(state.pop(now), None);
        state.finish(&object, lane, Next::After(Duration::from_secs(9)), now);
        assert_eq!(popped(&mut state), ["a/1"]);
    }

    #[test]
    fn a_delay_ends_in_time_or_with_a_change() {
        let now = Instant::now();
        let delay = Duration::from_secs(9);
        let delayed = || {
            let mut state = pushed(&[("a/1", Lane::Changed)]);
            let (object, lane) = state.pop(now).unwrap();
            state.finish(&object, lane, Next::After(delay), now);
            state
        };
        let mut state = delayed();
        assert_eq!(state.next_due(), Some(now + delay));
        state.push("a/1".into(), Lane::Backlog);
        assert_eq!(state.pop(now), None);
        assert_eq!(state.pop(now + delay), Some(("a/1".into(), Lane::Backlog)));

        let mut state = delayed();
        state.push("a/1".into(), Lane::Changed);
        assert_eq!(state.pop(now), Some(("a/1".into(), Lane::Changed)));
        assert_eq!(state.next_due(), None);
    }

    #[test]
    fn the_backlog_leaves_workers_for_changes() {
        let mut state = QueueState::new(1);
        let now = Instant::now();
        for object in ["a/1", "b/1"] {
            state.push(object.into(), Lane::Backlog);
        }
        let (first, lane) = state.pop(now).unwrap();
        assert_eq!(state.pop(now), None);
        state.push("c/1".into(), Lane::Changed);
        assert!(state.pop(now).is_some());
        state.finish(&first, lane, Next::Settled, now);
        assert!(state.pop(now).is_some());
    }

    #[tokio::test]
    async fn a_worker_that_panics_returns_the_object_to_the_queue() {
        let queue = Arc::new(Queue::new(4));
        queue.push("a/1".into(), Lane::Changed);
        drop(queue.pop().await);
        assert_eq!(queue.depth(), Depth { delayed: 1, ..Depth::default() });
        queue.push("a/1".into(), Lane::Changed);
        queue.pop().await.finish(Next::Settled);
        assert_eq!(queue.depth(), Depth::default());
    }
}
