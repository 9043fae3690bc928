//! The live SealedSecrets of all namespaces.

use bulla_crds::SealedSecret;
use kube::Api;
use kube::api::ListParams;

use super::{ApiError, Cluster};

/// Some MiB at most are sent at once.
const PAGE: u32 = 100;

/// Shows every SealedSecret of the cluster to `look`, page by page.
pub(crate) fn for_each(
    cluster: &Cluster,
    mut look: impl FnMut(SealedSecret),
) -> Result<(), ApiError> {
    let api = Api::<SealedSecret>::all(cluster.client.clone());
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = cluster.ask(api.list(&params))?;
        page.items.into_iter().for_each(&mut look);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}
