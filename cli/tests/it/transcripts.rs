//! Transcripts: `cli/tests/cmd`, run from the folder of this crate. `TRYCMD=overwrite` refreshes them.

#[test]
fn transcripts_are_true() {
    trycmd::TestCases::new()
        .env("HOME", "/nonexistent")
        .env("KUBECONFIG", "")
        // Whether the examples are tracked by Git is not to count.
        .env("GIT_DIR", "/nonexistent")
        .case("tests/cmd/*.trycmd");
}
