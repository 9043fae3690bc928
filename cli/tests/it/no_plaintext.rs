//! Values on their way into a file: no write to a disk contains them, nor does a file name or the process list. The
//! tests watch the system calls of the programs.

use std::fs::File;
use std::process::Command;

use crate::edit::Desk;
use crate::marker::{MARKER, is_marked};
use crate::traced::{self, Place, Traced};

/// Where the marker was found on a disk, or where others can see it.
fn marks(traced: &Traced) -> Vec<String> {
    let is_hidden = |bytes: &Option<Vec<u8>>| bytes.as_deref().is_none_or(is_marked);
    let on_disk = traced.writes.iter().filter(|write| write.place == Place::Disk);
    let on_disk = on_disk.filter(|write| is_hidden(&write.bytes)).map(|write| write.path.clone());
    let shown = traced.shown.iter().filter(|(_, bytes)| is_marked(bytes));
    on_disk.chain(shown.map(|(what, _)| what.clone())).collect()
}

/// Whether the marker was written to a place where it may be.
fn is_seen(traced: &Traced, place: Place) -> bool {
    let there = traced.writes.iter().filter(|write| write.place == place);
    there.filter_map(|write| write.bytes.as_deref()).any(is_marked)
}

/// Records a command whose stdin is a file with the marker in it.
fn traced(desk: &Desk, command: &Command) -> Traced {
    desk.sandbox.write("value", MARKER);
    let traced = traced::run(command, File::open(desk.sandbox.path("value")).unwrap());
    assert_eq!(traced.code, Some(0));
    traced
}

/// Asserts that the marker was found nowhere, and that a file was written.
fn assert_unmarked(traced: &Traced) {
    assert_eq!(marks(traced), Vec::<String>::new());
    let files = traced.files_on_disk();
    assert!(files.iter().any(|path| path.contains("/.bulla-")), "{files:?}");
}

#[test]
fn a_mark_is_found_wherever_it_goes() {
    let desk = Desk::new();
    for (script, place) in [
        ("cat > on-disk", "on-disk"),
        ("base64 > on-disk", "on-disk"),
        ("(cat; echo) | (read x; echo before $x after) > on-disk", "on-disk"),
        ("dd of=on-disk", "on-disk"),
        ("cp value on-disk", "on-disk"),
        ("read x; > $x", "name"),
        ("read x; mv value $x", "name"),
        ("read x; env - sh -c true $x", "arguments"),
        ("read x; A=$x sh -c true", "environment"),
    ] {
        let mut command = desk.sandbox.command(&[]);
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(command.get_current_dir().unwrap());
        command = shell;
        let traced = traced(&desk, &command);
        let marks = marks(&traced);
        assert!(marks.iter().any(|mark| mark.ends_with(place)), "{script}: {marks:?}");
    }
    // And a value that is passed as an argument.
    let set = ["set", "db.yaml", "password", MARKER, "-R", "x25519.pub"];
    assert!(marks(&traced(&desk, &desk.sandbox.command(&set))).contains(&"arguments".to_owned()));
}

#[test]
fn set_writes_no_value() {
    let desk = Desk::new();
    for (args, name) in [
        (&["set", "db.yaml", "password", "-R", "x25519.pub"][..], "stdin"),
        (&["set", "db.yaml", "password", "--from-file", "value", "-R", "x25519.pub"], "a file"),
    ] {
        let before = desk.sandbox.read("db.yaml");
        assert_unmarked(&traced(&desk, &desk.sandbox.command(args)));
        assert_ne!(desk.sandbox.read("db.yaml"), before, "{name}");
    }
}

#[test]
fn create_writes_no_value() {
    let desk = Desk::new();
    desk.sandbox.write("values.env", format!("user={MARKER}\n"));
    let from = ["--from-file", "password=-", "--from-env-file", "values.env"];
    let to = ["-n", "prod", "-R", "x25519.pub", "-o", "new.yaml"];
    // Into a new file, as one more object, and into an existing one.
    for (name, flags) in [("cache", &[][..]), ("mail", &[]), ("cache", &["--merge"])] {
        let args = [&["create", name], &from[..], &to, flags].concat();
        assert_unmarked(&traced(&desk, &desk.sandbox.command(&args)));
    }
    let names = ["cache", "mail"].map(|name| format!("name: {name}\n"));
    assert!(names.iter().all(|name| desk.sandbox.read("new.yaml").contains(name)));
}

#[test]
fn edit_writes_values_only_into_memory() {
    let desk = Desk::new();
    let before = desk.sandbox.read("db.yaml");
    // Typed in place of a placeholder; an argument of a program would be seen.
    let script = "{ sed '/^  user: /d' \"$1\"; printf '  user: '; cat value; echo; } > \"$1.new\" && mv \"$1.new\" \"$1\"";
    let seen = traced(&desk, &desk.command(script, &["db.yaml"]));
    assert_unmarked(&seen);
    assert!(is_seen(&seen, Place::Memory), "the editor wrote it");
    let after = desk.sandbox.read("db.yaml");
    assert_ne!(after, before);
    // Shown with an identity, and a refusal in between.
    let script = "if grep -q '^# error' \"$1\"; then sed -i 's|^x.*||' \"$1\"; else echo 'x: [' >> \"$1\"; sed -i 's|^  host: .*|  host: other|' \"$1\"; fi";
    let seen = traced(&desk, &desk.command(script, &["db.yaml", "-i", "x25519.txt"]));
    assert_unmarked(&seen);
    assert!(is_seen(&seen, Place::Memory), "bulla wrote it");
    // Plaintext was written to memory and nowhere else.
    let elsewhere = seen.writes.iter().filter(|write| write.place != Place::Memory);
    let marked = elsewhere.filter(|write| write.bytes.as_deref().is_some_and(is_marked));
    assert_eq!(marked.map(|write| &write.path).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_ne!(desk.sandbox.read("db.yaml"), after);
    desk.assert_clean();
}
