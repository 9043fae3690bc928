//! Names that other programs use too: labels, annotations, types of Secrets, and how sealed values begin.

/// The API group, and the prefix of Bulla's labels and annotations.
pub const GROUP: &str = "bulla.dev";
/// The `apiVersion` of all of Bulla's kinds.
pub const API_VERSION: &str = "bulla.dev/v1alpha1";
/// The label by which targets are watched: `owned` on Bulla's own; `adopt` or `merge` on a Secret whose owner
/// allows it.
pub const TARGET_LABEL: &str = "bulla.dev/target";
/// The value of [`TARGET_LABEL`] on a Secret that a SealedSecret keeps.
pub const TARGET_OWNED: &str = "owned";
/// The value of [`TARGET_LABEL`] on a Secret that may be taken over entirely.
pub const TARGET_ADOPT: &str = "adopt";
/// The value of [`TARGET_LABEL`] on a Secret to which keys may be added.
pub const TARGET_MERGE: &str = "merge";
/// On a target: the uid and generation of the SealedSecret that it was made from.
pub const TARGET_SOURCE: &str = "bulla.dev/source";
/// The `type` of a Secret that holds an identity, so that a field selector finds only these Secrets.
pub const IDENTITY_SECRET_TYPE: &str = "bulla.dev/identity";
/// The data key of an identity Secret: an age identity file, as `age-keygen` writes it.
pub const IDENTITY_SECRET_KEY: &str = "identity.txt";
/// The `type` of a Secret that holds an identity sealed to the recovery recipients.
pub const BACKUP_SECRET_TYPE: &str = "bulla.dev/identity-backup";
/// The data key of a backup Secret: an age file, see [`crate::keys::seal_identity`].
pub const BACKUP_SECRET_KEY: &str = "identity.age";
/// On an Active SealingKey, with any value: asks the controller to make its successor now.
pub const RENEW_ANNOTATION: &str = "bulla.dev/renew";
/// On a SealingKey that became Active after it was made: when it did, by the API server's time.
pub const ACTIVATED_ANNOTATION: &str = "bulla.dev/activated";
/// On a SealingKey that was Active: the name of its successor. It is written together with the state Retired, so
/// that if two clients renew at the same time, only one succeeds.
pub const SUCCESSOR_ANNOTATION: &str = "bulla.dev/successor";
/// On an identity Secret, `true`: its key was revoked, even if its SealingKey is changed or deleted.
pub const REVOKED_ANNOTATION: &str = "bulla.dev/revoked";
/// On a SealingKey, `true`: the controller declared it for a recovery recipient, so values are sealed to it too.
pub const RECOVERY_ANNOTATION: &str = "bulla.dev/recovery";
/// The holder of a recovery recipient that was given no other name.
pub const RECOVERY_HOLDER: &str = "recovery";
/// On an object that the cluster refuses to delete, `true`: allows its deletion.
pub const ALLOW_DELETE_ANNOTATION: &str = "bulla.dev/allow-delete";

/// The annotation that client-side `kubectl apply` adds to every object. Bulla leaves it out without a message.
pub const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How every age file begins in base64: `age-encryption.org/v1`.
pub const AGE_PREFIX: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3Yx";

/// How every sealed value begins: the base64 of `age-encryption.org/v1`, a new line and `-> bulla.dev/v1`,
/// without the last characters, which depend on the bytes that follow.
pub const SEALED_PREFIX: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IGJ1bGxhLmRldi92MS";

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    #[test]
    fn sealed_values_begin_with_the_prefixes() {
        let start = BASE64_STANDARD.encode("age-encryption.org/v1\n-> bulla.dev/v1 strict");
        assert!(start.starts_with(SEALED_PREFIX));
        assert!(SEALED_PREFIX.starts_with(AGE_PREFIX));
        assert_eq!(BASE64_STANDARD.encode("age-encryption.org/v1"), AGE_PREFIX);
    }
}
