//! Sets up logs.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::args::LogFormat;

/// Libraries that log the bodies of requests and responses at verbose levels, or when they cannot parse one.
/// Bodies can hold Secrets, so these libraries are capped whatever `RUST_LOG` says.
const CAPPED: [&str; 9] =
    ["kube", "hyper", "h2", "tower", "rustls", "axum", "reqwest", "tungstenite", "mio"];

/// Writes logs to stderr: level `info` and above, or what `RUST_LOG` sets within the caps.
pub(crate) fn init(format: LogFormat) {
    let requested =
        EnvFilter::builder().with_default_directive(Level::INFO.into()).from_env_lossy();
    let capped = filter_fn(|metadata| !is_capped(metadata.target(), *metadata.level()));
    let is_terminal = std::io::stderr().is_terminal();
    let layer =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Plain => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(requested).with_filter(capped)).init();
}

/// kube-client logs a response that it cannot parse at WARN, with its body. So only errors pass.
fn is_capped(target: &str, level: Level) -> bool {
    let is_library = CAPPED.iter().any(|library| target.starts_with(library));
    is_library && level > Level::ERROR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_print_bodies_are_capped() {
        assert!(is_capped("kube_client::client", Level::WARN));
        assert!(is_capped("hyper_util::client", Level::TRACE));
        assert!(!is_capped("kube_client::client", Level::ERROR));
        assert!(!is_capped("bulla_controller::keys", Level::TRACE));
    }
}
