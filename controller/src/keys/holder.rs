//! Decides on the name of this cluster. It is the holder of the Active key that the cluster holds already, so that
//! manifests that are applied again never rename a cluster.

use std::collections::BTreeMap;

use crate::args::Args;
use crate::context::Context;

/// The name of a cluster that holds no key yet and was given no name.
const DEFAULT: &str = "default";

/// Why the name cannot be decided.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Contradiction {
    #[error(
        "--holder (BULLA_HOLDER) is {given}, but this cluster holds the Active key of {}; remove the setting, or rename the cluster with --take-over {}",
        held.join(" and of "), held.join(",")
    )]
    OtherName { given: String, held: Vec<String> },
    #[error(
        "this cluster holds the Active keys of {}; set --holder (BULLA_HOLDER) to its own name",
        .0.join(" and of ")
    )]
    SeveralNames(Vec<String>),
}

/// Waits until the keys are listed, and then until nothing contradicts the name.
pub(crate) async fn settle(ctx: &Context) {
    ctx.key_store.listed().await;
    let mut changes = ctx.key_store.changes();
    loop {
        changes.mark_unchanged();
        match decide(&ctx.key_store.holders(), &ctx.args) {
            Ok(holder) => {
                tracing::info!(holder, "this is the name of the cluster");
                return ctx.holder.settle(holder);
            }
            Err(contradiction) => {
                let why = contradiction.to_string();
                if ctx.holder.contradiction().as_ref() != Some(&why) {
                    tracing::error!("{why}");
                }
                ctx.holder.contradict(why);
            }
        }
        let _ = changes.changed().await; // the sender lives as long as the key store
    }
}

/// `held` has the holders of held keys, and whether one of these keys is Active.
fn decide(held: &BTreeMap<String, bool>, args: &Args) -> Result<String, Contradiction> {
    let active = held.iter().filter(|(_, is_active)| **is_active).map(|(holder, _)| holder.clone());
    let active: Vec<_> = active.collect();
    if let Some(given) = &args.holder {
        let is_renamed = || active.iter().any(|holder| args.is_taken_over(&args.namespace, holder));
        if active.is_empty() || active.contains(given) || is_renamed() {
            return Ok(given.clone());
        }
        return Err(Contradiction::OtherName { given: given.clone(), held: active });
    }
    if active.len() > 1 {
        return Err(Contradiction::SeveralNames(active));
    }
    // Restored keys are Retired, but they still say whose they were.
    let mut names = held.keys();
    let only = names.next().filter(|_| names.next().is_none());
    Ok(active.into_iter().next().or_else(|| only.cloned()).unwrap_or_else(|| DEFAULT.into()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn decided(held: &[(&str, bool)], flags: &[&str]) -> Result<String, String> {
        let args = Args::parse_from([&["bulla-controller"], flags].concat());
        let held = held.iter().map(|(holder, is_active)| ((*holder).to_owned(), *is_active));
        decide(&held.collect(), &args).map_err(|contradiction| contradiction.to_string())
    }

    #[test]
    fn the_clusters_own_active_key_decides_on_its_name() {
        for (held, flags, expected) in [
            (&[][..], &[][..], "default"),
            (&[], &["--holder=eu"], "eu"),
            (&[("eu", true)], &[], "eu"),
            (&[("eu", true)], &["--holder=eu"], "eu"),
            (&[("eu", true), ("us", false)], &[], "eu"),
            (&[("eu", false)], &[], "eu"),
            (&[("eu", false), ("us", false)], &[], "default"),
            (&[("eu", false)], &["--holder=us"], "us"),
            (&[("eu", true), ("us", true)], &["--holder=us"], "us"),
            (&[("eu", true)], &["--holder=us", "--take-over=eu"], "us"),
            (&[("eu", true)], &["--holder=us", "--take-over=bulla-system/eu"], "us"),
        ] {
            assert_eq!(decided(held, flags).as_deref(), Ok(expected), "{held:?} {flags:?}");
        }
    }

    #[test]
    fn a_name_that_contradicts_the_active_key_is_refused() {
        for flags in [&["--holder=us"][..], &["--holder=us", "--take-over=asia"]] {
            let error = decided(&[("eu", true)], flags).unwrap_err();
            assert!(
                error.contains("is us, but this cluster holds the Active key of eu"),
                "{error}"
            );
            assert!(error.ends_with("--take-over eu"), "{error}");
        }
        let error = decided(&[("eu", true), ("us", true)], &[]).unwrap_err();
        assert!(error.contains("of eu and of us"), "{error}");
    }
}
