//! With a bad network and an API server in trouble, the controller completes its work and does nothing twice.
//!
//! Each test has a control plane for itself, whose controller reaches the API server only through a [`Proxy`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use bulla_sealing::{Identity, KeyType, Recipients};
use bulla_tests::{
    Asked, Component, ControlPlane, Controller, End, Fault, Injected, Proxy, Rule, eventually,
};
use serde_json::{Value, json};

use crate::{
    SOON,
    api::{self, Api},
    cluster::{Fragile, HOLDER, published},
    marker::MARKER,
    searched::{Searched, search_objects},
    test_namespace::{TestNamespace, seal_for, secret},
};

/// Every way in which a single request fails or is late.
const FAULTS: [Fault; 15] = [
    Fault::Status(401),
    Fault::Status(403),
    Fault::Status(409),
    Fault::Status(410),
    Fault::TooMany(1),
    Fault::Status(500),
    Fault::Status(503),
    Fault::Status(504),
    Fault::Garbage(200),
    Fault::Garbage(502),
    Fault::Cut,
    Fault::LoseAnswer,
    Fault::Truncate,
    Fault::CutHalfway,
    Fault::Delay(Duration::from_millis(300)),
];

/// All requests of the controller about one object, without its Events.
const ABOUT: [&str; 5] = [
    "GET sealedsecrets/{}",
    "GET secrets/{}",
    "POST secrets/{}",
    "PUT secrets/{}",
    "PATCH sealedsecrets/{}/status",
];

/// Initial lists, in pages or streamed.
const LISTS: [&str; 3] =
    ["GET */sealedsecrets", "GET */secrets", "WATCH *?*sendInitialEvents=true&*"];

/// The query of a streamed list.
const STREAMED: &str = "sendInitialEvents=true";

/// The status code for a watch whose resource version is gone.
const COMPACTED: Fault = Fault::EndAfter(0, End::Expire);

/// The value that edits write into a target.
const EDITED: &str = MARKER;

#[test]
fn the_controller_survives_any_failure_of_any_request() -> Result<()> {
    alone("any-failure", |faulty, namespace| {
        let mut names = Vec::new();
        let mut rules = Vec::new();
        for (i, request) in ABOUT.iter().enumerate() {
            for (j, fault) in FAULTS.iter().enumerate() {
                let name = format!("{i}-fault-{j}");
                let pattern = here(namespace, &request.replace("{}", &name));
                rules.push((*request, Rule::new(&pattern, *fault).times(2)));
                names.push(name);
            }
        }
        let mut hits = BTreeMap::<_, usize>::new();
        let mut in_trouble = |password: &str, change: &dyn Fn(&str) -> Result<Value>| {
            let rules: Vec<_> = rules
                .iter()
                .map(|(request, rule)| (*request, faulty.proxy.inject(rule.clone())))
                .collect();
            for name in &names {
                change(name).with_context(|| name.clone())?;
            }
            for name in &names {
                namespace.restored(name, &[("password", password)])?;
                has_current_status(namespace, name)?;
            }
            for (request, rule) in rules {
                *hits.entry(request).or_default() += rule.hits();
            }
            anyhow::Ok(())
        };
        let apply = |name: &str, password| {
            namespace.apply(&namespace.seal(name, &[("password", password)])?)
        };
        in_trouble("1", &|name| apply(name, "1")).context("created")?;
        in_trouble("2", &|name| apply(name, "2")).context("changed")?;
        has_at_most(namespace, &names, "DriftRepaired", 0).context("no edit was made")?;
        in_trouble("2", &|name| edit(namespace, name)).context("edited")?;
        in_trouble("2", &|name| namespace.api.delete(&namespace.secret_path(name), &Value::Null))
            .context("deleted")?;
        has_at_most(namespace, &names, "DriftRepaired", 2)?;
        has_at_most(namespace, &names, "Unsealed", 2)?;

        // All writes at least got their faults.
        for request in ABOUT.iter().filter(|request| !request.starts_with("GET")) {
            let hits = hits.get(request).copied().unwrap_or_default();
            ensure!(hits >= 2 * FAULTS.len(), "{request} met {hits} faults");
        }
        Ok(())
    })
}

#[test]
fn a_throttled_request_is_not_repeated_before_its_retry_time() -> Result<()> {
    alone("throttled", |faulty, namespace| {
        let create = here(namespace, "POST secrets/db");
        let rule = faulty.proxy.inject(Rule::new(&create, Fault::TooMany(2)).times(1));
        namespace.unseal("db", &[("password", "1")])?;
        assert_eq!(rule.hits(), 1);
        let asked = faulty.proxy.asked(&create);
        ensure!(asked.len() == 2, "{asked:?}");
        let pause = asked[1].at - asked[0].at;
        ensure!(pause >= Duration::from_millis(1900), "expected a wait of 2 s, found {pause:?}");
        Ok(())
    })
}

#[test]
fn hanging_requests_delay_no_other_object() -> Result<()> {
    let rules = [
        ("GET sealedsecrets/trouble-0", Fault::Hang),
        ("POST secrets/trouble-1", Fault::Hang),
        ("PATCH sealedsecrets/trouble-2/status", Fault::Hang),
    ];
    alone("others-hang", |faulty, namespace| harm_no_other(faulty, namespace, 3, &rules))
}

#[test]
fn many_objects_in_lasting_trouble_delay_no_other_object() -> Result<()> {
    // More objects than workers.
    let rules = [("POST secrets/trouble-*", Fault::Status(503))];
    alone("others-are-refused", |faulty, namespace| harm_no_other(faulty, namespace, 30, &rules))
}

/// Creates and changes other objects while this many objects are in trouble.
fn harm_no_other(
    faulty: &Faulty,
    namespace: &TestNamespace,
    troubled: usize,
    rules: &[(&str, Fault)],
) -> Result<()> {
    let (name, trouble) = (|i: usize| format!("object-{i}"), |i: usize| format!("trouble-{i}"));
    for i in 0..10 {
        namespace.unseal(&name(i), &[("password", "0")])?;
    }
    let rules: Vec<_> = rules
        .iter()
        .map(|(pattern, fault)| faulty.proxy.inject(Rule::new(&here(namespace, pattern), *fault)))
        .collect();
    for i in 0..troubled {
        namespace.apply(&namespace.seal(&trouble(i), &[("password", "1")])?)?;
    }
    eventually("objects in trouble", SOON, || {
        let asked = faulty.proxy.asked(&here(namespace, "* */trouble-*"));
        let names: BTreeSet<_> =
            asked.iter().filter_map(|asked| asked.line.split('/').nth(6)).collect();
        // At least as many as the workers take at a time.
        ensure!(names.len() >= troubled.min(16), "{names:?}");
        Ok(())
    })?;
    let start = Instant::now();
    for i in 0..20 {
        namespace.apply(&namespace.seal(&name(i), &[("password", "1")])?)?;
    }
    for i in 0..20 {
        namespace.restored(&name(i), &[("password", "1")])?;
        namespace.done(&name(i))?;
    }
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(5), "20 objects took {took:?}");
    drop(rules);
    for i in 0..troubled {
        namespace.done(&trouble(i))?;
    }
    Ok(())
}

#[test]
fn requests_without_an_answer_are_given_up() -> Result<()> {
    alone("never-answered", |faulty, namespace| {
        for name in ["replaced", "changed", "edited"] {
            namespace.unseal(name, &[("password", "0")])?;
        }
        let never = |pattern: &str| {
            faulty.proxy.inject(Rule::new(&here(namespace, pattern), Fault::Hang).times(1))
        };
        let rules = [
            never("POST secrets/created"),
            never("PUT secrets/replaced"),
            never("PATCH sealedsecrets/told/status"),
            never("POST events*"),
            faulty.proxy.inject(Rule::new("GET */sealedsecrets", Fault::Hang).times(1)),
            faulty.proxy.inject(Rule::new("GET /api/v1/secrets", Fault::Hang).times(1)),
        ];
        let hits = || rules.iter().map(Injected::hits).collect::<Vec<_>>();
        let names = ["created", "replaced", "told", "told-of"];
        for name in names {
            namespace.apply(&namespace.seal(name, &[("password", "1")])?)?;
        }
        eventually("four requests that hang", SOON, || {
            ensure!(hits()[..4].iter().all(|hits| *hits == 1), "{:?}", hits());
            Ok(())
        })?;
        // While these hang, the lists hang too.
        faulty.expire("WATCH *", COMPACTED, || {
            edit(namespace, "edited")?;
            namespace.apply(&namespace.seal("changed", &[("password", "1")])?)
        })?;
        for name in names {
            namespace
                .restored(name, &[("password", "1")])
                .with_context(|| format!("{:?}", hits()))?;
            namespace.done(name).with_context(|| format!("{:?}", hits()))?;
        }
        namespace.restored("changed", &[("password", "1")])?;
        namespace.restored("edited", &[("password", "0")])?;
        ensure!(hits()[..4] == [1; 4], "{:?}", hits());
        Ok(())
    })
}

#[test]
fn a_lost_answer_causes_no_second_write() -> Result<()> {
    alone("lost-answers", |faulty, namespace| {
        for name in ["replaced", "told-again", "event"] {
            namespace.unseal(name, &[("password", "0")])?;
        }
        faulty.wait_until_quiet_in(namespace)?;
        let drift = faulty.controller.metric("bulla_drift_repaired_total")?;
        let (secrets, sealed_secrets) = (
            History::begin(namespace, namespace.secrets())?,
            History::begin(namespace, namespace.sealed_secrets())?,
        );
        let lost = |pattern: &str| {
            faulty.proxy.inject(Rule::new(&here(namespace, pattern), Fault::LoseAnswer).times(1))
        };
        let rules = [
            lost("POST secrets/created"),
            lost("PUT secrets/replaced"),
            lost("PATCH sealedsecrets/told/status"),
            lost("PATCH sealedsecrets/told-again/status"),
            lost("POST events*"),
        ];
        for name in ["created", "replaced", "told", "told-again", "event"] {
            namespace.apply(&namespace.seal(name, &[("password", "1")])?)?;
        }
        for name in ["created", "replaced", "told", "told-again", "event"] {
            namespace.restored(name, &[("password", "1")])?;
            namespace.done(name)?;
        }
        faulty.wait_until_quiet_in(namespace)?;
        let hits: Vec<_> = rules.iter().map(Injected::hits).collect();
        assert_eq!(hits, [1; 5]);

        // Each Secret was written once. Each SealedSecret was written by this test and once for its status.
        let (secrets, sealed_secrets) = (secrets.end(namespace)?, sealed_secrets.end(namespace)?);
        for (name, before) in
            [("created", 0), ("replaced", 1), ("told", 0), ("told-again", 1), ("event", 1)]
        {
            let first = if before == 0 { "ADDED" } else { "MODIFIED" };
            assert_eq!(secrets[name], [first], "Secret {name}");
            assert_eq!(sealed_secrets[name], [first, "MODIFIED"], "SealedSecret {name}");
            let told = events_about(namespace, name, "Unsealed")?;
            ensure!(
                told <= before + 1,
                "{name} was unsealed {} times and reported {told} times",
                before + 1
            );
            ensure!(
                namespace.events(name, "DriftRepaired")?.is_empty(),
                "{name} is reported as drift"
            );
        }
        assert_eq!(faulty.controller.metric("bulla_drift_repaired_total")? - drift, 0.0);
        Ok(())
    })
}

#[test]
fn watches_that_are_cut_repeatedly_miss_nothing() -> Result<()> {
    alone("watches-cut", |faulty, namespace| {
        let name = |i: usize| format!("object-{i}");
        for i in 0..20 {
            namespace.apply(&namespace.seal(&name(i), &[("password", "0")])?)?;
        }
        for i in 0..20 {
            namespace.done(&name(i))?;
        }
        namespace.unseal("untouched", &[("password", "0")])?;
        faulty.wait_until_quiet_in(namespace)?;
        let untouched = here(namespace, "* */untouched*");
        let before = faulty.counted(&untouched)?;

        let ends = [
            Fault::EndAfter(6, End::Cut),
            Fault::EndAfter(10, End::Close),
            Fault::EndAfter(14, End::Cut),
        ];
        let rule = faulty.proxy.inject(Rule::one_of("WATCH *", &ends));
        faulty.proxy.end_watches("*", End::Cut);
        for i in 0..20 {
            match i % 4 {
                0 => namespace.api.delete(&namespace.secret_path(&name(i)), &Value::Null)?,
                1 => edit(namespace, &name(i))?,
                2 => namespace.apply(&namespace.seal(&name(i), &[("password", "1")])?)?,
                _ => namespace.api.delete(&namespace.sealed_secret_path(&name(i)), &Value::Null)?,
            };
        }
        for i in 0..20 {
            match i % 4 {
                0 | 1 => {
                    namespace.restored(&name(i), &[("password", "0")])?;
                    has_current_status(namespace, &name(i))?;
                }
                2 => {
                    namespace.restored(&name(i), &[("password", "1")])?;
                    has_current_status(namespace, &name(i))?;
                }
                _ => namespace.gone(&namespace.secret_path(&name(i)))?,
            }
        }
        ensure!(rule.hits() >= 5, "only {} watches were opened", rule.hits());
        assert_eq!(faulty.proxy.count(&untouched), before);
        Ok(())
    })
}

#[test]
fn a_refused_compacted_watch_is_listed_again() -> Result<()> {
    alone("compacted-refused", |faulty, namespace| compacted(faulty, namespace, Fault::Status(410)))
}

#[test]
fn a_compacted_watch_that_ends_with_an_error_is_listed_again() -> Result<()> {
    alone("compacted-error", |faulty, namespace| compacted(faulty, namespace, COMPACTED))
}

/// The controller handles every change that it did not see, and touches nothing else.
fn compacted(faulty: &Faulty, namespace: &TestNamespace, fault: Fault) -> Result<()> {
    let names = [
        "changed",
        "edited",
        "target-deleted",
        "label-removed",
        "deleted",
        "both-deleted",
        "made-again",
        "unchanged-0",
        "unchanged-1",
        "unchanged-2",
    ];
    for name in names {
        namespace.apply(&namespace.seal(name, &[("password", "0")])?)?;
    }
    for name in names {
        namespace.done(name)?;
    }
    faulty.wait_until_quiet_in(namespace)?;

    let before = faulty.counted(&here(namespace, "* *"))?;
    faulty.expire("WATCH *", fault, || Ok(Value::Null))?;
    faulty.wait_until_quiet_in(namespace)?;
    assert_eq!(
        faulty.proxy.count(&here(namespace, "* *")),
        before,
        "requests were made although nothing has changed"
    );

    let unchanged = here(namespace, "* */unchanged-*");
    let before = faulty.counted(&unchanged)?;
    faulty.expire("WATCH *", fault, || {
        for name in ["new", "changed"] {
            namespace.apply(&namespace.seal(name, &[("password", "1")])?)?;
        }
        edit(namespace, "edited")?;
        namespace.api.delete(&namespace.secret_path("target-deleted"), &Value::Null)?;
        namespace.api.delete(&namespace.sealed_secret_path("deleted"), &Value::Null)?;
        namespace.gone(&namespace.secret_path("deleted"))?;
        namespace.api.delete(
            &namespace.sealed_secret_path("both-deleted"),
            &json!({"propagationPolicy": "Orphan"}),
        )?;
        namespace.gone(&namespace.sealed_secret_path("both-deleted"))?;
        namespace.api.delete(&namespace.secret_path("both-deleted"), &Value::Null)?;
        namespace.api.delete(&namespace.sealed_secret_path("made-again"), &Value::Null)?;
        namespace.apply(&namespace.seal("made-again", &[("password", "1")])?)?;
        let patch = json!({
            "metadata": {"labels": {"bulla.dev/target": null}},
            "stringData": {"password": EDITED},
        });
        namespace.api.merge(&namespace.secret_path("label-removed"), &patch)
    })?;
    for name in ["new", "changed", "made-again"] {
        namespace.restored(name, &[("password", "1")])?;
        has_current_status(namespace, name)?;
    }
    for name in ["edited", "target-deleted", "label-removed"] {
        namespace.restored(name, &[("password", "0")])?;
        has_current_status(namespace, name)?;
    }
    faulty.counts_only_existing_objects()?;
    faulty.wait_until_quiet_in(namespace)?;
    for name in ["deleted", "both-deleted"] {
        ensure!(!namespace.has_secret(name)?, "{name} was created again");
    }
    assert_eq!(
        faulty.proxy.count(&unchanged),
        before,
        "requests were made about unchanged objects"
    );
    Ok(())
}

#[test]
fn a_target_deleted_while_only_the_watch_of_targets_is_down_is_restored() -> Result<()> {
    alone("targets-unseen", |faulty, namespace| {
        namespace.unseal("db", &[("password", "0")])?;
        faulty.wait_until_quiet_in(namespace)?;
        faulty.expire("WATCH /api/v1/secrets", COMPACTED, || {
            namespace.api.delete(&namespace.secret_path("db"), &Value::Null)
        })?;
        namespace.restored("db", &[("password", "0")])?;
        has_current_status(namespace, "db")
    })
}

#[test]
fn a_change_on_the_first_page_of_a_slow_list_is_handled() -> Result<()> {
    // Lists are sorted, so the changed object is on the first page, which the others fill.
    alone("a-first", |faulty, namespace| {
        namespace.unseal("changed", &[("password", "0")])?;
        let others = TestNamespace::new(&faulty.api, &faulty.recipients, "b-second")?;
        let mut refused =
            seal_for("elsewhere", secret("other", &[("password", "1")]), &faulty.recipients)?;
        for i in 0..100 {
            refused["metadata"]["name"] = json!(format!("other-{i}"));
            others.apply(&refused)?;
        }
        faulty.wait_until_quiet_in(namespace)?;
        faulty.wait_until_quiet_in(&others)?;
        let slow =
            Rule::new("GET */sealedsecrets?*continue=*", Fault::Delay(Duration::from_secs(1)));
        let slow = faulty.proxy.inject(slow);
        faulty.expire("WATCH */sealedsecrets", COMPACTED, || {
            namespace.apply(&namespace.seal("changed", &[("password", "1")])?)
        })?;
        namespace.restored("changed", &[("password", "1")])?;
        drop(slow);
        has_current_status(namespace, "changed")
    })
}

#[test]
fn an_incomplete_list_is_not_used() -> Result<()> {
    alone("lists-break-off", |faulty, namespace| {
        let names = ["changed", "edited", "deleted", "unchanged-0", "unchanged-1", "unchanged-2"];
        for name in names {
            namespace.unseal(name, &[("password", "0")])?;
        }
        faulty.wait_until_quiet_in(namespace)?;
        let unchanged = here(namespace, "* */unchanged-*");
        let before = faulty.counted(&unchanged)?;
        let faults = [Fault::Truncate, Fault::CutHalfway, Fault::Garbage(200)];
        let rules: Vec<_> = LISTS
            .iter()
            .flat_map(|list| {
                faults.map(|fault| faulty.proxy.inject(Rule::new(list, fault).times(1)))
            })
            .collect();
        faulty.expire("WATCH *", COMPACTED, || {
            edit(namespace, "edited")?;
            namespace.api.delete(&namespace.secret_path("deleted"), &Value::Null)?;
            namespace.apply(&namespace.seal("changed", &[("password", "1")])?)
        })?;
        for (name, password) in [("changed", "1"), ("edited", "0"), ("deleted", "0")] {
            namespace.restored(name, &[("password", password)])?;
            has_current_status(namespace, name)?;
        }
        faulty.wait_until_quiet_in(namespace)?;
        let hits: usize = rules.iter().map(Injected::hits).sum();
        ensure!(hits >= faults.len(), "only {hits} lists broke off");
        assert_eq!(
            faulty.proxy.count(&unchanged),
            before,
            "requests were made about unchanged objects"
        );
        Ok(())
    })
}

#[test]
fn a_start_in_the_middle_of_trouble_succeeds_and_generates_no_second_key() -> Result<()> {
    alone("start-in-trouble", |faulty, namespace| {
        for i in 0..3 {
            namespace.unseal(&format!("settled-{i}"), &[("password", "0")])?;
        }
        faulty.wait_until_quiet_in(namespace)?;
        let keys = crate::cluster::sealing_keys(&namespace.api)?.len();
        let before = faulty.counted(&here(namespace, "* *"))?;
        let faults = [
            Fault::Status(500),
            Fault::Status(503),
            Fault::TooMany(1),
            Fault::Garbage(200),
            Fault::Truncate,
            Fault::CutHalfway,
            Fault::Cut,
        ];
        let rules = LISTS.map(|list| faulty.proxy.inject(Rule::one_of(list, &faults).times(4)));
        faulty.controller.restart()?;
        faulty.controller.wait_until_ready()?;
        let hits: usize = rules.iter().map(Injected::hits).sum();
        ensure!(hits >= 4, "only {hits} lists met a fault");
        faulty.wait_until_quiet_in(namespace)?;
        assert_eq!(
            faulty.proxy.count(&here(namespace, "* *")),
            before,
            "requests were made although nothing has changed"
        );
        assert_eq!(crate::cluster::sealing_keys(&namespace.api)?.len(), keys);
        namespace.unseal("new", &[("password", "0")])?;
        Ok(())
    })
}

#[test]
fn a_failing_object_is_retried_at_growing_delays_and_at_once_when_it_changes() -> Result<()> {
    alone("growing-delay", |faulty, namespace| {
        let failing =
            faulty.proxy.inject(Rule::new(&here(namespace, "POST secrets/*"), Fault::Status(500)));
        for name in ["waiting", "changed"] {
            namespace.apply(&namespace.seal(name, &[("password", "0")])?)?;
        }
        let creates =
            |name: &str| faulty.proxy.asked(&here(namespace, &format!("POST secrets/{name}")));
        eventually("five attempts on each", SOON, || {
            let counts = ["waiting", "changed"].map(|name| creates(name).len());
            ensure!(counts.iter().all(|count| *count >= 5), "{counts:?}");
            Ok(())
        })?;
        drop(failing);
        let asked = creates("waiting");
        let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        let (first, last) = (pauses[0], pauses[pauses.len() - 1]);
        ensure!(last >= first * 3, "delays do not grow: {pauses:?}");
        let requests = faulty.counted(&here(namespace, "* */waiting*"))?;
        ensure!(requests <= 8 * asked.len(), "{requests} requests in {} attempts", asked.len());

        // A changed object does not wait for the end of the delay. An unchanged object waits no longer than that.
        let start = Instant::now();
        namespace.unseal("changed", &[("password", "1")])?;
        let took = start.elapsed();
        ensure!(took < last, "a change waited for {took:?}, the last delay was {last:?}");
        namespace.done("waiting")?;
        let took = start.elapsed();
        ensure!(took < last * 3, "retried after {took:?}, the last delay was {last:?}");

        // After a success the delays start again from the shortest.
        let once = Rule::new(&here(namespace, "PUT secrets/waiting"), Fault::Status(500)).times(1);
        let once = faulty.proxy.inject(once);
        let start = Instant::now();
        namespace.unseal("waiting", &[("password", "1")])?;
        let took = start.elapsed();
        ensure!(once.hits() == 1 && took < last, "a first failure took {took:?}");
        Ok(())
    })
}

#[test]
fn a_lasting_refusal_costs_no_further_request() -> Result<()> {
    alone("lasting-refusal", |faulty, namespace| {
        let stranger = Recipients::new(vec![Identity::generate(KeyType::X25519)?.recipient()])?;
        let values = [("password", "1")];
        let unknown = seal_for(&namespace.name, secret("unknown", &values), &stranger)?;
        let moved = seal_for("elsewhere", secret("moved", &values), &namespace.recipients)?;
        for (name, reason, sealed_secret) in
            [("unknown", "UnknownKey", unknown), ("moved", "WrongBinding", moved)]
        {
            namespace.apply(&sealed_secret)?;
            namespace.refused(name, reason)?;
            namespace.event(name, reason)?;
            let about = here(namespace, &format!("* */{name}*"));
            namespace.let_pass()?;
            let before = faulty.counted(&about)?;
            // The controller sees the object again, but nothing in it has changed.
            let patch = json!({"metadata": {"labels": {"seen": "again"}}});
            namespace.api.merge(&namespace.sealed_secret_path(name), &patch)?;
            namespace.let_pass()?;
            faulty.wait_until_quiet_in(namespace)?;
            assert_eq!(faulty.proxy.count(&about), before, "{name}");
        }
        Ok(())
    })
}

#[test]
fn the_controller_survives_a_crash_of_etcd_or_the_api_server_in_a_burst_of_new_objects()
-> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "burst")?;
    let name = |i: usize| format!("object-{i}");
    for part in [Component::Etcd, Component::ApiServer] {
        let objects = match part {
            Component::Etcd => 0..100,
            _ => 100..200,
        };
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for i in objects.clone() {
                    let sealed_secret = namespace.seal(&name(i), &[("password", &name(i))])?;
                    eventually("an API server", SOON, || namespace.apply(&sealed_secret))?;
                }
                anyhow::Ok(())
            });
            // In the middle of the burst some objects exist, and some of these are unsealed.
            let middle = name(objects.start + 30);
            eventually("the middle of the burst", SOON, || namespace.sealed_secret(&middle))?;
            fragile.plane.kill(part)?;
            fragile.plane.restart(part)?;
            writer.join().map_err(|_| anyhow!("the writer panicked"))?
        })?;
        for i in objects {
            namespace.restored(&name(i), &[("password", &name(i))])?;
            has_current_status(&namespace, &name(i))?;
        }
    }
    fragile.give_back()
}

#[test]
fn everything_is_as_declared_after_random_faults_of_all_kinds() -> Result<()> {
    const OBJECTS: usize = 60;
    const SOAK: Duration = Duration::from_secs(20);
    alone("soak", |faulty, namespace| {
        let ends = [
            Fault::EndAfter(1, End::Cut),
            Fault::EndAfter(5, End::Close),
            Fault::EndAfter(5, End::Expire),
            Fault::Truncate,
        ];
        let rules = [
            Rule::one_of("WATCH *", &ends).chance(0.3),
            Rule::new("*", Fault::Hang).chance(0.002),
            Rule::one_of("*", &FAULTS).chance(0.2),
        ];
        let rules = rules.map(|rule| faulty.proxy.inject(rule));

        let name = |i: usize| format!("object-{i}");
        let mut expected: Vec<Option<String>> = vec![None; OBJECTS];
        let start = Instant::now();
        for step in 0.. {
            if start.elapsed() > SOAK {
                break;
            }
            // Go through all objects, and change each in another way every time.
            let i = step * 37 % OBJECTS;
            let (round, name) = (step / OBJECTS, name(i));
            match (round + i) % 7 {
                _ if expected[i].is_none() => {
                    let version = step.to_string();
                    namespace.apply(&namespace.seal(&name, &[("password", &version)])?)?;
                    expected[i] = Some(version);
                }
                0..3 => {
                    let version = step.to_string();
                    namespace.apply(&namespace.seal(&name, &[("password", &version)])?)?;
                    expected[i] = Some(version);
                }
                3 => if_it_exists(edit(namespace, &name))?,
                4 => {
                    if_it_exists(namespace.api.delete(&namespace.secret_path(&name), &Value::Null))?
                }
                5 => {
                    let patch = json!({
                        "metadata": {"labels": {"bulla.dev/target": null}},
                        "stringData": {"password": EDITED},
                    });
                    if_it_exists(namespace.api.merge(&namespace.secret_path(&name), &patch))?;
                }
                _ => {
                    namespace.api.delete(&namespace.sealed_secret_path(&name), &Value::Null)?;
                    expected[i] = None;
                }
            }
            // This waits for nothing. It leaves some CPU time to the programs under test.
            thread::sleep(Duration::from_millis(10));
        }
        let hits = rules.each_ref().map(Injected::hits);
        ensure!(hits.iter().sum::<usize>() > 200, "only {hits:?} faults were met");
        drop(rules);

        for (i, expected) in expected.iter().enumerate() {
            match expected {
                Some(version) => {
                    namespace.restored(&name(i), &[("password", version)])?;
                    has_current_status(namespace, &name(i))?;
                }
                None => namespace.gone(&namespace.secret_path(&name(i)))?,
            }
        }
        faulty.counts_only_existing_objects()?;
        // No more writes follow.
        faulty.wait_until_quiet_in(namespace)?;
        let (secrets, sealed_secrets) = (
            History::begin(namespace, namespace.secrets())?,
            History::begin(namespace, namespace.sealed_secrets())?,
        );
        faulty.wait_until_quiet_in(namespace)?;
        let (secrets, sealed_secrets) = (secrets.end(namespace)?, sealed_secrets.end(namespace)?);
        ensure!(secrets.is_empty() && sealed_secrets.is_empty(), "{secrets:?} {sealed_secrets:?}");
        Ok(())
    })
}

/// A control plane and a controller that reaches it through a proxy.
struct Faulty {
    controller: Searched,
    proxy: Proxy,
    // Kept running; the tests use it through `api`.
    _plane: ControlPlane,
    api: Arc<Api>,
    recipients: Arc<Recipients>,
}

/// Runs a test with a control plane for itself and a namespace in it.
fn alone(name: &str, test: impl FnOnce(&mut Faulty, &TestNamespace) -> Result<()>) -> Result<()> {
    // One for each test that runs at the same time, but no more than most machines can run.
    static PLACES: [Mutex<Option<Faulty>>; 2] = [const { Mutex::new(None) }; 2];
    let free = PLACES.iter().find_map(|place| place.try_lock().ok());
    let mut place = free.unwrap_or_else(|| lock(&PLACES[0]));
    let mut faulty = match place.take() {
        Some(mut faulty) => {
            // The delays that one test caused must not affect the next.
            faulty.controller.restart()?;
            faulty.controller.wait_until_ready()?;
            faulty
        }
        None => Faulty::start()?,
    };
    let namespace = TestNamespace::new(&faulty.api, &faulty.recipients, name)?;
    let outcome = test(&mut faulty, &namespace);
    faulty.search_or_explain(&namespace, outcome)?;
    faulty.requests_only_metadata_of_secrets()?;
    // Only after success: a failed test drops its half-broken control plane.
    *place = Some(faulty);
    Ok(())
}

impl Faulty {
    fn start() -> Result<Self> {
        let mut plane = ControlPlane::start()?;
        let api = Arc::new(Api::new(plane.admin().kubeconfig())?);
        Controller::install(&plane)?;
        // Otherwise the garbage collector looks for new kinds of objects only every half minute.
        plane.restart(Component::ControllerManager)?;
        let proxy = Proxy::start(&plane)?;
        let mut command = Controller::command_through(&plane, &proxy)?;
        command.args(["--holder", HOLDER, "--type", "x25519"]);
        let controller = Searched::start(command)?;
        controller.wait_until_ready()?;
        ensure!(!proxy.asked("*").is_empty(), "the controller does not use the proxy");
        let recipients = published(&api)?;
        Ok(Self { controller, proxy, _plane: plane, api, recipients })
    }

    /// Of all Secrets but its own identities, the controller requests only metadata. None of these tests merges.
    fn requests_only_metadata_of_secrets(&self) -> Result<()> {
        let asked = self.proxy.asked("* *secrets*");
        let of_targets = asked.iter().filter(|asked| {
            let is_of_secrets = asked.line.contains("/secrets");
            is_of_secrets && !asked.line.contains("/namespaces/bulla-system/")
        });
        let mut verbs = BTreeSet::new();
        for asked in of_targets {
            ensure!(asked.accept.contains("as=PartialObjectMetadata"), "{asked:?}");
            verbs.extend(asked.line.split(' ').next());
        }
        ensure!(verbs.contains("WATCH"), "only {verbs:?}");
        Ok(())
    }

    /// Searches all output for forbidden texts. If the test has failed, the error shows the log.
    fn search_or_explain(&self, namespace: &TestNamespace, outcome: Result<()>) -> Result<()> {
        let log = self.controller.log()?;
        outcome.with_context(|| {
            let about: Vec<_> = log.lines().filter(|line| line.contains(&namespace.name)).collect();
            about[about.len().saturating_sub(20)..].join("\n")
        })?;
        self.controller.search()?;
        search_objects(&self.api, None)
    }

    /// Runs `happens` while none of these watches is open. Then the resource versions at which they are opened again
    /// count as compacted, permanently.
    fn expire(
        &self,
        watches: &str,
        fault: Fault,
        happens: impl FnOnce() -> Result<Value>,
    ) -> Result<()> {
        self.watches()?;
        let open = self.proxy.open_watches(watches);
        let held = self.proxy.inject(Rule::new(watches, Fault::Hold));
        self.proxy.end_watches(watches, End::Close);
        eventually("watches to be opened again", SOON, || {
            ensure!(held.hits() >= open.len(), "{} of {open:?}", held.hits());
            Ok(())
        })?;
        happens()?;
        // Identities and their backups are watched at one path, so a version counts once for both.
        let paths: BTreeSet<_> = open.iter().collect();
        let compacted = paths.into_iter().map(|watch| Compacted::new(&self.proxy, watch, fault));
        let mut compacted: Vec<_> =
            compacted.filter_map(Result::transpose).collect::<Result<_>>()?;
        drop(held);
        eventually("lists of all whose watches are compacted", SOON, || {
            compacted.retain(|compacted| !compacted.is_listed(&self.proxy));
            let missing: Vec<_> = compacted.iter().map(|compacted| compacted.watch).collect();
            ensure!(missing.is_empty(), "not of {missing:?}");
            let again = self.proxy.open_watches(watches);
            ensure!(again.len() >= open.len(), "only {again:?} are open");
            Ok(())
        })
    }

    /// Waits for the watches of SealedSecrets, targets, SealingKeys, Rekeys, identities and backups.
    fn watches(&self) -> Result<()> {
        eventually("all six watches", SOON, || {
            let open = self.proxy.open_watches("*");
            ensure!(open.len() >= 6, "only {open:?} are open");
            Ok(())
        })
    }

    /// Waits until the watches are open and the controller has sent no request about the namespace for a while.
    fn wait_until_quiet_in(&self, namespace: &TestNamespace) -> Result<()> {
        const A_WHILE: Duration = Duration::from_millis(1500);
        let here = here(namespace, "* *");
        self.watches()?;
        eventually("an end of all requests", SOON, || {
            let asked = self.proxy.asked(&here);
            let last = asked.last();
            ensure!(last.is_none_or(|last| last.at.elapsed() > A_WHILE), "{last:?}");
            Ok(())
        })
    }

    /// How many requests so far match; at least one.
    fn counted(&self, pattern: &str) -> Result<usize> {
        let count = self.proxy.count(pattern);
        ensure!(count > 0, "no request matches {pattern}");
        Ok(count)
    }

    /// Checks that the metrics count only existing objects.
    fn counts_only_existing_objects(&self) -> Result<()> {
        eventually("as many SealedSecrets in the metrics as there are", SOON, || {
            let list = self.api.get("/apis/bulla.dev/v1alpha1/sealedsecrets")?;
            let existing = list["items"].as_array().context("no list")?.len();
            let counted = self.controller.metric("bulla_sealed_secrets")?;
            ensure!(counted == existing as f64, "{counted} are counted, {existing} exist");
            Ok(())
        })
    }
}

/// A watch whose resource version is compacted, until the controller lists its objects again.
struct Compacted<'a> {
    watch: &'a str,
    asked: usize,
    refused: Injected,
}

impl<'a> Compacted<'a> {
    /// `None` for a watch that begins with a list, because it misses nothing.
    fn new(proxy: &Proxy, watch: &'a str, fault: Fault) -> Result<Option<Self>> {
        let query = proxy.asked(watch).pop().context("the watch was never opened")?.query;
        if query.contains(STREAMED) {
            return Ok(None);
        }
        let mut parameters = query.split('&');
        let version = parameters.find(|parameter| parameter.starts_with("resourceVersion="));
        let version = version.with_context(|| format!("{watch} has no resource version"))?;
        let refused = proxy.inject(Rule::new(&format!("{watch}?*{version}&*"), fault));
        Ok(Some(Self { watch, asked: proxy.asked("*").len(), refused }))
    }

    fn is_listed(&self, proxy: &Proxy) -> bool {
        let list = self.watch.replacen("WATCH", "GET", 1);
        let is_list = |asked: &Asked| {
            asked.line == list || (asked.line == self.watch && asked.query.contains(STREAMED))
        };
        self.refused.hits() > 0 && proxy.asked("*")[self.asked..].iter().any(is_list)
    }
}

/// The writes to a collection.
struct History {
    path: String,
    since: String,
}

impl History {
    fn begin(namespace: &TestNamespace, path: String) -> Result<Self> {
        let list = namespace.api.get(&path)?;
        let since = list["metadata"]["resourceVersion"].as_str().context("no resource version")?;
        Ok(Self { since: since.to_owned(), path })
    }

    /// The kinds of writes since, for each name.
    fn end(self, namespace: &TestNamespace) -> Result<BTreeMap<String, Vec<String>>> {
        let Self { path, since } = self;
        let query = format!("watch=true&resourceVersion={since}&timeoutSeconds=1");
        let mut writes = BTreeMap::<_, Vec<_>>::new();
        for line in namespace.api.text(&format!("{path}?{query}"))?.lines() {
            let event: Value = serde_json::from_str(line)?;
            let name = event["object"]["metadata"]["name"].as_str().context("no name")?;
            let kind = event["type"].as_str().context("no type")?;
            writes.entry(name.to_owned()).or_default().push(kind.to_owned());
        }
        Ok(writes)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pattern with its path in this namespace.
fn here(namespace: &TestNamespace, pattern: &str) -> String {
    pattern.replacen(' ', &format!(" */namespaces/{}/", namespace.name), 1)
}

/// Edits the target behind the controller's back.
fn edit(namespace: &TestNamespace, name: &str) -> Result<Value> {
    namespace.api.merge(&namespace.secret_path(name), &json!({"stringData": {"password": EDITED}}))
}

/// Accepts that a missing object cannot be edited.
fn if_it_exists(outcome: Result<Value>) -> Result<()> {
    match outcome {
        Err(error) if api::code(&error) == Some(404) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Fails if an object has more Events of this reason.
fn has_at_most(namespace: &TestNamespace, names: &[String], reason: &str, most: u64) -> Result<()> {
    let mut findings = Vec::new();
    for name in names {
        let told = events_about(namespace, name, reason)?;
        findings.extend((told > most).then(|| format!("{name}: {told}")));
    }
    ensure!(findings.is_empty(), "more than {most} Events {reason} about {findings:?}");
    Ok(())
}

/// How many Events of this reason there are about an object.
fn events_about(namespace: &TestNamespace, name: &str, reason: &str) -> Result<u64> {
    let events = namespace.events(name, reason)?;
    Ok(events.iter().map(|event| event["series"]["count"].as_u64().unwrap_or(1)).sum())
}

/// Waits until the status describes the current SealedSecret and Secret.
fn has_current_status(namespace: &TestNamespace, name: &str) -> Result<()> {
    eventually(&format!("an up-to-date status of {name}"), SOON, || {
        let sealed_secret = namespace.done(name)?;
        let metadata = &namespace.secret(name)?["metadata"];
        let target = &sealed_secret["status"]["target"];
        ensure!(
            target["uid"] == metadata["uid"]
                && target["resourceVersion"] == metadata["resourceVersion"],
            "the status is of {target}, the Secret is {} at {}",
            metadata["uid"],
            metadata["resourceVersion"]
        );
        Ok(())
    })
}
