//! `bulla keys fetch`.

use bulla_crds::State;
use clap::Args;
use serde_json::json;

use crate::cluster::{Cluster, ClusterKey};
use crate::failure::{Answer, Failure};
use crate::flags::{ClusterFlags, Format, Output};
use crate::output::{self, Content, Existing};

/// Fetch the recipients that a cluster's values are sealed to today
///
/// Reads the SealingKeys through the API server and prints the recipients of the Active ones as a
/// recipients file for bulla seal -R. Compare the fingerprints with what the cluster's administrators
/// tell you before you rely on them.
#[derive(Args)]
pub(crate) struct Fetch {
    #[command(flatten)]
    cluster: ClusterFlags,

    #[command(flatten)]
    output: Output,

    /// Write over an existing file
    #[arg(long)]
    force: bool,

    /// The form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Fetch {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let cluster = Cluster::connect(&self.cluster)?;
        let mut keys = cluster.sealing_keys()?.all_trusted()?;
        keys.retain(|key| key.state == State::Active);
        if keys.is_empty() {
            return Err(cluster.no_active_key());
        }
        let text = match self.format {
            Format::Human => recipients_file(&keys),
            Format::Json => format!("{:#}\n", json!(keys.iter().map(to_json).collect::<Vec<_>>())),
        };
        match output::file(self.output.output.as_deref()) {
            Some(path) => {
                let existing = Existing::unless(self.force);
                output::write_file(path, text.as_bytes(), existing, Content::Public)?;
            }
            None => output::stdout(text.as_bytes())?,
        }
        Ok(Answer::Yes)
    }
}

fn recipients_file(keys: &[ClusterKey]) -> String {
    let entry = |key: &ClusterKey| {
        format!(
            "# holder {}, fingerprint {}, created {}\n{}\n",
            key.holder,
            key.recipient.long_fingerprint(),
            key.created,
            key.recipient
        )
    };
    keys.iter().map(entry).collect()
}

fn to_json(key: &ClusterKey) -> serde_json::Value {
    json!({
        "holder": key.holder,
        "fingerprint": key.recipient.fingerprint().to_string(),
        "longFingerprint": key.recipient.long_fingerprint(),
        "type": key.recipient.key_type().as_str(),
        "created": key.created.to_string(),
        "recipient": key.recipient.as_str(),
    })
}
