//! A plaintext Secret that is wiped when it is dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, Serializer};
use zeroize::{Zeroize, Zeroizing};

use crate::length::json_length;

/// A plaintext Secret. It is wiped when dropped, and only its name can be printed.
#[derive(Default)]
pub struct WipedSecret(Secret);

impl WipedSecret {
    /// Takes a Secret, to wipe it when dropped.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// Changes the parts that are not secret.
    pub fn with(mut self, change: impl FnOnce(&mut Secret)) -> Self {
        change(&mut self.0);
        self
    }

    /// The Secret as the body of a request. The body and the buffers behind it are wiped: the Secret's own
    /// serializer would leave every value behind in base64.
    ///
    /// ```
    /// use bulla_crds::WipedSecret;
    /// use k8s_openapi::api::core::v1::Secret;
    /// use serde_json::{Value, json};
    ///
    /// let manifest = json!({
    ///     "apiVersion": "v1",
    ///     "kind": "Secret",
    ///     "metadata": {"name": "db"},
    ///     "data": {"password": "aHVudGVyMg=="},
    /// });
    /// let secret = WipedSecret::new(serde_json::from_value::<Secret>(manifest.clone())?);
    /// assert_eq!(serde_json::from_slice::<Value>(&secret.to_json())?, manifest);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let body = Body {
            api_version: "v1",
            kind: "Secret",
            data: self.0.data.as_ref().map(Data),
            immutable: self.0.immutable,
            metadata: &self.0.metadata,
            string_data: self.0.string_data.as_ref(),
            type_: self.0.type_.as_deref(),
        };
        // The length is measured first, so that the buffer does not grow and leave copies behind.
        let length = json_length(&body);
        let mut json = Zeroizing::new(Vec::with_capacity(length));
        let written = serde_json::to_writer(&mut *json, &body);
        debug_assert!(written.is_ok() && json.len() == length);
        json
    }
}

/// A Secret in the form that is sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    api_version: &'a str,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    immutable: Option<bool>,
    metadata: &'a ObjectMeta,
    #[serde(skip_serializing_if = "Option::is_none")]
    string_data: Option<&'a BTreeMap<String, String>>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    type_: Option<&'a str>,
}

struct Data<'a>(&'a BTreeMap<String, ByteString>);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let encode = |value: &ByteString| Zeroizing::new(BASE64_STANDARD.encode(&value.0));
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, Text(encode(value)))))
    }
}

struct Text(Zeroizing<String>);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Deref for WipedSecret {
    type Target = Secret;

    fn deref(&self) -> &Secret {
        &self.0
    }
}

impl Drop for WipedSecret {
    fn drop(&mut self) {
        self.0.data.iter_mut().flatten().for_each(|(_, value)| value.0.zeroize());
        self.0.string_data.iter_mut().flatten().for_each(|(_, value)| value.zeroize());
    }
}

impl fmt::Debug for WipedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metadata = &self.0.metadata;
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        write!(f, "WipedSecret({namespace}/{})", metadata.name.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_body_equals_the_serialized_secret() {
        for manifest in [
            json!({"metadata": {"name": "db"}}),
            json!({"metadata": {}, "data": {}}),
            json!({
                "metadata": {
                    "name": "db",
                    "namespace": "prod",
                    "labels": {"team": "storage"},
                    "annotations": {"note": "\"quoted\"\n"},
                    "ownerReferences": [{"apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret", "name": "db", "uid": "u"}],
                },
                "type": "kubernetes.io/tls",
                "immutable": true,
                "data": {"tls.crt": "", "tls.key": "/w==", "user": "YXBw"},
                "stringData": {"text": "ä\"\u{1}"},
            }),
        ] {
            let secret = WipedSecret::new(serde_json::from_value::<Secret>(manifest).unwrap());
            let body = secret.to_json();
            assert_eq!(
                serde_json::from_slice::<Value>(&body).unwrap(),
                serde_json::to_value(&*secret).unwrap()
            );
            assert_eq!(body.len(), body.capacity());
        }
    }
}
