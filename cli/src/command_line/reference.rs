//! `docs/reference.md`, made from the definitions of the command line. `UPDATE=1 cargo test -p bulla reference`
//! refreshes it.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_markdown::MarkdownOptions;

use crate::Cli;

#[test]
fn the_reference_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md");
    let options = MarkdownOptions::new()
        .title("Reference of the command line".into())
        .show_footer(false)
        .show_table_of_contents(true);
    let command = Cli::command().bin_name("bulla");
    let page = clap_markdown::help_markdown_command_custom(&command, &options);
    let page = page.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    let page = page.trim_end().to_owned() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == page, "docs/reference.md is out of date; refresh it with UPDATE=1");
}
