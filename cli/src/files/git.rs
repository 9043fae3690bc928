//! Files and revisions in Git, through the `git` program.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, ensure};
use memchr::memmem;

use crate::files::input::MAX_FILE_BYTES;
use crate::report::failure::{Failure, OrHint};

/// Only files with this word have sealed values.
const WORD: &[u8] = b"sealedData";

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    id: String,
    /// As Git names it: `REF:path`.
    pub(crate) name: String,
    /// From the root of the work tree.
    pub(crate) path: PathBuf,
}

/// Whether the current folder is in a repository with at least one commit.
pub(crate) fn is_here() -> Result<bool, Failure> {
    if run(&["rev-parse", "--quiet", "--verify", "HEAD"]).is_ok() {
        return Ok(true);
    }
    if run(&["rev-parse", "--git-dir"]).is_ok() {
        return Ok(false); // nothing is committed yet
    }
    // Git may be missing, or may refuse another user's repository: then files would be overlooked.
    let here = std::env::current_dir().context("cannot find the current folder")?;
    if here.ancestors().any(|folder| folder.join(".git").exists()) {
        Err(anyhow!("git cannot read this repository"))
            .or_hint("to see why, run git status; --no-git skips the files in Git")
    } else {
        Ok(false)
    }
}

/// The root of the work tree that holds a path without links.
pub(crate) fn root_of(real: &Path) -> Option<PathBuf> {
    // A file in place of the folder marks a linked work tree or a submodule.
    real.ancestors().find(|folder| folder.join(".git").exists()).map(Path::to_owned)
}

/// The state of a file that Git does not ignore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is in the index, so it is or will be committed.
    Tracked,
    /// `git add` would find it.
    Untracked,
}

/// The state of a file; `None` if Git ignores it, or outside of a work tree.
pub(crate) fn standing(path: &Path) -> Option<Standing> {
    let real = path.canonicalize().ok()?;
    root_of(&real)?;
    let listed = git(&["--literal-pathspecs", "ls-files", "-t", "-z", "--cached", "--others"])
        .args(["--exclude-standard", "--"])
        .arg(real.file_name()?)
        .current_dir(real.parent()?)
        .output()
        .ok()?;
    match listed.stdout.first()? {
        b'?' => Some(Standing::Untracked),
        _ => Some(Standing::Tracked),
    }
}

/// The files of a branch, tag or commit of the repository around the current folder.
pub(crate) fn files(git_ref: &str) -> Result<Vec<Blob>, Failure> {
    list(git_ref).or_hint(
        "run this in the repository, with an existing branch, tag or commit; in a shallow clone, run git fetch --unshallow first",
    )
}

/// The files that differ from a branch, tag or commit, relative to the root of the work tree.
pub(crate) fn changed_since(git_ref: &str) -> Result<HashSet<PathBuf>, Failure> {
    let changed = resolved(git_ref, "commit")
        .with_context(|| no_revision(git_ref))
        .and_then(|commit| {
            run(&["diff-index", "-z", "--name-only", "--no-renames", &commit, "--"])
        })
        .or_hint("name an existing branch, tag or commit; in a shallow clone, run git fetch --unshallow first")?;
    Ok(paths(&changed).collect())
}

/// The files in a folder that Git tracks although a .gitignore matches them.
pub(crate) fn tracked_though_ignored(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let git_folder = root_of(&std::fs::canonicalize(folder)?).map(|root| root.join(".git"));
    let is_repository = |folder: PathBuf| folder.is_file() || folder.join("HEAD").exists();
    if !git_folder.is_some_and(is_repository) {
        return Ok(Vec::new());
    }
    let mut command = git(&["ls-files", "-z", "--cached", "--ignored", "--exclude-standard"]);
    let listed = output_of(command.current_dir(folder))?;
    let files = paths(&listed).map(|path| folder.join(path));
    let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    Ok(files.filter(is_file).collect())
}

fn paths(listed: &[u8]) -> impl Iterator<Item = PathBuf> {
    let entries = listed.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    entries.map(|entry| PathBuf::from(&*String::from_utf8_lossy(entry)))
}

/// The files that the next commit would have.
pub(crate) fn staged_files() -> Result<Vec<Blob>, Failure> {
    let list = || {
        let listed = run(&["ls-files", "--stage", "-z", "--full-name", ":/"])
            .context("cannot list the staged files")?;
        // `<mode> <id> <stage>\t<path>`; in a merge a file has up to three stages, and ours is the second.
        let mut blobs = Vec::new();
        for (about, path) in entries(&listed)? {
            let [_, id, stage] = about;
            if ["0", "2"].contains(&stage.as_str()) {
                blobs.push(Blob { id, name: format!(":{path}"), path: path.into() });
            }
        }
        anyhow::Ok(blobs)
    };
    list().or_hint("run this in the repository")
}

/// The work tree around the current folder.
pub(crate) struct WorkTree {
    pub(crate) root: PathBuf,
    /// From the root to the current folder.
    pub(crate) prefix: PathBuf,
    /// Every file that Git has or would add, from the root; one that was deleted may be among them.
    pub(crate) files: Vec<PathBuf>,
}

/// The work tree around the current folder and the files in it, less what Git ignores.
pub(crate) fn work_tree() -> Result<WorkTree, Failure> {
    let read = || -> anyhow::Result<WorkTree> {
        let places = run(&["rev-parse", "--show-toplevel", "--show-prefix"])
            .context("not in a Git work tree")?;
        let places = String::from_utf8_lossy(&places);
        let mut places = places.lines();
        let (root, prefix) = (places.next(), places.next());
        let list = "ls-files -z --full-name --cached --others --exclude-standard :/";
        let listed = run(&Vec::from_iter(list.split(' ')))
            .context("cannot list the files of the work tree")?;
        let mut files: Vec<_> = paths(&listed).collect();
        files.sort_unstable();
        files.dedup();
        let root = root.context("not in a Git work tree")?.into();
        Ok(WorkTree { root, prefix: prefix.unwrap_or_default().into(), files })
    };
    read().or_hint("run this in the repository")
}

/// Whether Git knows a commit by this name.
pub(crate) fn is_commit(git_ref: &str) -> bool {
    resolved(git_ref, "tree").is_ok()
}

/// The last common commit of two revisions.
pub(crate) fn merge_base(one: &str, other: &str) -> Result<String, Failure> {
    let found = run(&["merge-base", "--", one, other])
        .with_context(|| format!("{one} and {other} have no commit in common"));
    let found = found.or_hint("in a shallow clone, run git fetch --unshallow first")?;
    Ok(String::from_utf8_lossy(&found).trim().to_owned())
}

/// Whether conflicts should show the common ancestor.
pub(crate) fn conflicts_show_base() -> bool {
    let style = run(&["config", "--get", "merge.conflictStyle"]).unwrap_or_default();
    ["diff3", "zdiff3"].contains(&String::from_utf8_lossy(&style).trim())
}

impl Blob {
    /// Whether two files have the same bytes.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// Shows each of these files to `look`, less those that are larger than any manifest.
pub(crate) fn read(blobs: &[Blob], mut look: impl FnMut(&Blob, &[u8])) -> Result<(), Failure> {
    Ok(read_in_order(blobs, &mut look).context("cannot read files from Git")?)
}

/// Shows each file that may have sealed values to `look`. Content that several commits share is shown once.
pub(crate) fn read_sealed(
    git_refs: &[String],
    mut look: impl FnMut(&Blob, &[u8]),
) -> Result<(), Failure> {
    let mut blobs = Vec::new();
    let mut seen = HashSet::new();
    for git_ref in git_refs {
        blobs.extend(files(git_ref)?.into_iter().filter(|blob| seen.insert(blob.id.clone())));
    }
    read(&blobs, |blob, content| {
        if memmem::find(content, WORD).is_some() {
            look(blob, content);
        }
    })
}

/// The error for a revision that does not exist. Before the first commit, not even HEAD exists.
fn no_revision(git_ref: &str) -> String {
    match git_ref {
        "HEAD" => "no commits yet, so nothing to compare with".to_owned(),
        git_ref => format!("no such revision: {git_ref}"),
    }
}

fn list(git_ref: &str) -> anyhow::Result<Vec<Blob>> {
    let tree = resolved(git_ref, "tree").with_context(|| no_revision(git_ref))?;
    let listed = run(&["ls-tree", "-r", "-z", "--full-tree", &tree])
        .with_context(|| format!("cannot list the files of {git_ref}"))?;
    // `<mode> <type> <id>\t<path>`
    let mut blobs = Vec::new();
    for (about, path) in entries(&listed)? {
        let [_, kind, id] = about;
        if kind == "blob" {
            blobs.push(Blob { id, name: format!("{git_ref}:{path}"), path: path.into() });
        }
    }
    Ok(blobs)
}

/// What Git lists with `-z`: three words and a path each.
fn entries(listed: &[u8]) -> anyhow::Result<Vec<([String; 3], String)>> {
    let entry = |entry: &[u8]| {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        let about = String::from_utf8_lossy(&entry[..tab]);
        let about: Vec<_> = about.split(' ').map(str::to_owned).collect();
        let path = String::from_utf8_lossy(&entry[tab + 1..]).into_owned();
        Some((about.try_into().ok()?, path))
    };
    let listed = listed.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    listed.map(|bytes| entry(bytes).context("unexpected output from git")).collect()
}

/// One process for all files. Requests and answers flow at the same time.
fn read_in_order(blobs: &[Blob], look: &mut impl FnMut(&Blob, &[u8])) -> anyhow::Result<()> {
    let mut child = git(&["cat-file", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run git")?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (mut stdin, stdout) = stdin.zip(stdout).context("cannot talk to git")?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // If git ends early, the reader notices.
            blobs.iter().try_for_each(|blob| writeln!(stdin, "{}", blob.id))
        });
        let mut answers = BufReader::new(stdout);
        let read = blobs.iter().try_for_each(|blob| {
            if let Some(content) = answer(&mut answers).with_context(|| blob.name.clone())? {
                look(blob, &content);
            }
            anyhow::Ok(())
        });
        // So that git, and with it the writer, ends when reading ends.
        drop(answers);
        read
    })?;
    child.wait().context("cannot wait for git")?;
    Ok(())
}

/// `<id> blob <length>\n<content>\n`; a file larger than any manifest is skipped.
fn answer(answers: &mut impl BufRead) -> anyhow::Result<Option<Vec<u8>>> {
    let mut head = String::new();
    answers.read_line(&mut head)?;
    let (_, length) =
        head.trim_end().rsplit_once(" blob ").context("git does not have this file")?;
    let length: u64 = length.parse().context("git does not have this file")?;
    let content = if length > MAX_FILE_BYTES as u64 {
        io::copy(&mut answers.take(length), &mut io::sink())?;
        None
    } else {
        let mut content = Vec::new();
        answers.take(length).read_to_end(&mut content)?;
        ensure!(content.len() as u64 == length, "git stopped early");
        Some(content)
    };
    answers.read_exact(&mut [0])?;
    Ok(content)
}

/// The id of the commit or tree that a revision leads to.
fn resolved(git_ref: &str, kind: &str) -> anyhow::Result<String> {
    let name = format!("{git_ref}^{{{kind}}}");
    let id = run(&["rev-parse", "--quiet", "--verify", "--end-of-options", &name])?;
    Ok(String::from_utf8_lossy(&id).trim().to_owned())
}

fn run(args: &[&str]) -> anyhow::Result<Vec<u8>> {
    output_of(&mut git(args))
}

fn output_of(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command.output().context("cannot run git")?;
    ensure!(output.status.success(), "git exited with an error");
    Ok(output.stdout)
}

/// A git command that changes nothing and asks no questions.
fn git(args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .arg("--no-replace-objects")
        .args(args)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null());
    command
}
