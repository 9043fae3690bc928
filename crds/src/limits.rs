//! Size limits, each defined once.

/// The most values in one SealedSecret, sealed and rendered together.
pub const MAX_VALUES: usize = 256;

/// The most sealed data in one SealedSecret, in bytes of its age files.
pub const MAX_SEALED_BYTES: usize = 1024 * 1024;

/// The most data that the API server accepts in one Secret, in bytes of its values.
pub const MAX_SECRET_BYTES: usize = 1024 * 1024;

/// The longest JSON of an object: etcd stores 1.5 MiB, and the controller's status needs room too. A Rekey together
/// with its answer may be as long: a new header is as long as the old one when it is for as many keys of the same
/// type.
pub const MAX_OBJECT_BYTES: usize = 1_400_000;

/// The most bytes of text in one template.
pub const MAX_TEMPLATE_BYTES: usize = 64 * 1024;

/// The most templates of data in one SealedSecret. With more, the API server would refuse to count their placeholders.
pub const MAX_TEMPLATES: usize = 128;

/// The most placeholders in all templates of one SealedSecret: each takes far more memory than its text.
pub const MAX_PLACEHOLDERS: usize = 1000;

/// The most keys that the values of one SealedSecret are sealed to, all together: its status lists them.
pub const MAX_FINGERPRINTS: usize = 1024;

/// The length of 1 MiB of age files in base64.
pub(crate) const MAX_SEALED_LENGTH: usize = MAX_SEALED_BYTES.div_ceil(3) * 4;
