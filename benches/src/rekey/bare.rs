//! The bare client: the requests of the program and the controller for each SealedSecret, without cryptography. It
//! answers with the old headers, which are as long as new ones.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use bulla_crds::{
    Rekey, RekeySpec, RekeyStatus,
    conditions::{Reason, Situation},
    encode_value,
};
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    client::{Client, Connection, Content, Turns},
    server_metrics::Requests,
    tree::{NAMESPACE, Sealed, Tree},
};

/// For how many SealedSecrets the program has Rekeys at the same time.
const AT_ONCE: u16 = 8;

/// How many Rekeys the controller answers at the same time.
const WORKERS: usize = 2;

/// A Rekey and the status that answers it.
struct Exchange {
    rekey: String,
    status: RekeyStatus,
}

/// Opens the watch that the controller has, and reads its events as fast as they arrive.
pub(crate) async fn attach_watch(account: &Client) -> Result<()> {
    let path = "/apis/bulla.dev/v1alpha1/rekeys?";
    let mut connection = account.connect().await?;
    let page = connection.page::<IgnoredAny>(path, 1, None).await?;
    let path = format!("{path}watch=true&resourceVersion={}", page.metadata.resource_version);
    tokio::spawn(connection.watch(&path, Content::Metadata).await?.discard());
    Ok(())
}

/// Creates Rekeys for the whole tree as `person`, and answers them as `account`.
pub(crate) async fn ask(person: &Client, account: &Client, tree: &Tree) -> Result<Duration> {
    let exchanges: Arc<[Exchange]> =
        tree.sealed_secrets.iter().map(Exchange::new).collect::<Result<_>>()?;
    let mut answering = Vec::new();
    for _ in 0..WORKERS {
        answering.push(Mutex::new(account.connect().await?));
    }
    let answering: Arc<[Mutex<Connection>]> = answering.into();
    let count = exchanges.len();
    let work = |mut person: Connection, turns: Turns| {
        let (exchanges, answering) = (exchanges.clone(), answering.clone());
        async move {
            while let Some(turn) = turns.next() {
                exchanges[turn].run(&mut person, &answering[turn % WORKERS]).await?;
            }
            Ok(())
        }
    };
    person.in_parallel(AT_ONCE, count, work).await
}

impl Exchange {
    fn new(sealed: &Sealed) -> Result<Self> {
        let headers: BTreeMap<_, _> = sealed
            .values
            .iter()
            .map(|value| Ok((value.target.key().to_owned(), encode_value(value.header()?))))
            .collect::<Result<_>>()?;
        let done = Situation::Done {
            reason: Reason::Rekeyed,
            message: format!("made {} new headers", headers.len()),
        };
        let status = RekeyStatus {
            observed_generation: Some(1),
            conditions: done.conditions(1, &[], Timestamp::now()),
            headers: headers.clone(),
            ..RekeyStatus::default()
        };
        let spec = RekeySpec { sealed_secret: sealed.name.clone(), headers };
        let mut rekey = Rekey::new("", spec);
        rekey.metadata.name = None;
        rekey.metadata.generate_name = Some("bulla-".into());
        Ok(Self { rekey: serde_json::to_string(&rekey)?, status })
    }

    async fn run(&self, person: &mut Connection, answering: &Mutex<Connection>) -> Result<()> {
        let rekeys = format!("/apis/bulla.dev/v1alpha1/namespaces/{NAMESPACE}/rekeys");
        let created =
            person.create(&format!("{rekeys}?fieldManager=bulla"), self.rekey.clone()).await?;
        let (path, version) = (format!("{rekeys}/{}", created.name), created.resource_version);
        let mut account = answering.lock().await;
        // The user has no right to get a single Rekey.
        let list = format!(
            "{rekeys}?fieldSelector=metadata.name%3D{}&resourceVersion={version}&resourceVersionMatch=NotOlderThan",
            created.name
        );
        account.get::<Value>(&list).await?;
        let status = json!({"metadata": {"resourceVersion": version}, "status": self.status});
        let status_path = format!("{path}/status?fieldManager=bulla-controller");
        account.merge(&status_path, status.to_string()).await?;
        drop(account);
        person.get::<Value>(&path).await?;
        person.delete(&path).await
    }
}

/// Checks that the API server has counted these requests and no others.
pub(crate) fn check(tree: &Tree, requests: &Requests) -> Result<()> {
    let count = tree.sealed_secrets.len() as u64;
    let expected = [
        ("POST", "rekeys", count),
        // A list with a field selector for one object counts as a list.
        ("GET", "rekeys", 2 * count),
        ("PATCH", "rekeys/status", count),
        ("DELETE", "rekeys", count),
    ];
    let is_all =
        expected.iter().all(|(verb, resource, count)| requests.count(verb, resource) == *count);
    let others: Vec<_> = requests.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    ensure!(
        is_all && others.len() == expected.len(),
        "expected only the bare client's requests, but the API server counts {}",
        others.join(", ")
    );
    Ok(())
}
