//! Transcripts: `cli/tests/cmd`, run from the folder of this crate. `TRYCMD=overwrite` refreshes them.

#[test]
fn transcripts_match_the_program() {
    trycmd::TestCases::new()
        .env("HOME", "/nonexistent")
        .env("KUBECONFIG", "")
        .case("tests/cmd/*.trycmd");
}
