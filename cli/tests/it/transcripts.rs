//! Transcripts: `cli/tests/cmd`, run from the folder of this crate. `TRYCMD=overwrite` refreshes them.

#[test]
fn transcripts_are_true() {
    trycmd::TestCases::new()
        .env("HOME", "/nonexistent")
        .env("KUBECONFIG", "")
        .case("tests/cmd/*.trycmd");
}
