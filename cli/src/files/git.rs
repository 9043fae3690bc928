//! Files and revisions in Git.

mod program;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, ensure};
use memchr::memmem;

use self::program::{GitSaid, command, index_of_hook, output_of, path_of};
use crate::files::input::MAX_FILE_BYTES;
use crate::report::failure::{Failure, OrHint};

pub(crate) use self::program::{is_repository, root_of};

/// Only files with this word have sealed values.
const WORD: &[u8] = b"sealedData";

/// A repository with a work tree.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    /// The root of its work tree, without links.
    pub(crate) root: PathBuf,
    git_folder: PathBuf,
    /// The index that the next commit is made from, in a hook.
    index: Option<OsString>,
}

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    id: String,
    /// As Git names it: `REF:path`.
    pub(crate) name: String,
    /// From the root of the work tree.
    pub(crate) path: PathBuf,
    /// Whether it is a link, whose content is the path that it leads to.
    pub(crate) is_link: bool,
}

/// The state of a file that Git does not ignore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is in the index, so it is or will be committed.
    Tracked,
    /// `git add` would find it.
    Untracked,
}

/// A path that Git has or would add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// From the root of the work tree. What was deleted may be among them, and so may the folder of another repository.
    pub(crate) path: PathBuf,
    pub(crate) standing: Standing,
    /// Whether the work tree is not expected to have it, as in a sparse checkout.
    pub(crate) is_skipped: bool,
}

const IN_THE_REPOSITORY: &str = "run this in the repository";

/// The repository around the current folder, or the failure.
pub(crate) fn repository() -> Result<Repository, Failure> {
    Repository::here()?.ok_or_else(|| anyhow!("not in a Git work tree")).or_hint(IN_THE_REPOSITORY)
}

/// The state of a file; `None` if Git ignores it, or outside of a work tree.
pub(crate) fn standing(path: &Path) -> Result<Option<Standing>, Failure> {
    let real = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let Some(repository) = Repository::around(&real)? else { return Ok(None) };
    let listed = repository.listed(&real)?;
    Ok(listed.first().map(|listed| listed.standing))
}

/// Whether the current folder is in a repository with at least one commit.
pub(crate) fn has_commits() -> Result<bool, Failure> {
    let repository = Repository::here()?;
    Ok(repository.is_some_and(|repository| repository.is_commit("HEAD")))
}

/// Whether conflicts should show the common ancestor.
pub(crate) fn conflicts_show_base() -> bool {
    let repository = Repository::here().ok().flatten();
    let style = repository
        .and_then(|repository| repository.run(&["config", "--get", "merge.conflictStyle"]).ok());
    style.is_some_and(|style| ["diff3", "zdiff3"].contains(&String::from_utf8_lossy(&style).trim()))
}

impl Repository {
    /// The innermost repository around a path without links, if any.
    pub(crate) fn around(real: &Path) -> Result<Option<Self>, Failure> {
        root_of(real)
            .filter(|root| is_repository(root))
            .map_or(Ok(None), |root| Self::of_root(root).map(Some))
    }

    /// The repository around the current folder.
    pub(crate) fn here() -> Result<Option<Self>, Failure> {
        let here = std::env::current_dir().and_then(std::fs::canonicalize);
        Self::around(&here.context("cannot find the current folder")?)
    }

    /// The repository of a work tree. Git itself says where it is, and whether its owner is trusted.
    fn of_root(root: PathBuf) -> Result<Self, Failure> {
        let mut command = command(&root);
        // Not even a broken repository leads to another one above.
        command.env("GIT_CEILING_DIRECTORIES", root.parent().unwrap_or(&root));
        let found = output_of(command.args(["rev-parse", "--absolute-git-dir"]));
        let found = found.map_err(|error| {
            let what = format!("git cannot read the repository {}", root.display());
            let advice = error.downcast_ref::<GitSaid>().and_then(|said| said.advice.clone());
            let hint = advice.unwrap_or_else(|| "to see why, run git status there".to_owned());
            Failure::unable(error.context(what)).hint(hint)
        })?;
        let git_folder = path_of(found.strip_suffix(b"\n").unwrap_or(&found));
        let index = index_of_hook(&root, &git_folder);
        Ok(Self { root, git_folder, index })
    }

    /// A git command that changes nothing and asks no questions. It sees paths from the root.
    fn git(&self, args: &[&str]) -> Command {
        let mut command = command(&self.root);
        command.args(args).env("GIT_DIR", &self.git_folder).env("GIT_WORK_TREE", &self.root);
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        command
    }

    /// The same without the programs that convert files. Git would run them to compare a file with its index.
    fn git_without_filters(&self, args: &[&str]) -> Command {
        let mut command = self.git(args);
        let list = ["config", "--null", "--name-only", "--get-regexp", r"^filter\."];
        // It fails if there are none.
        let keys = self.run(&list).unwrap_or_default();
        let count = std::env::var("GIT_CONFIG_COUNT").ok().and_then(|count| count.parse().ok());
        let mut count: usize = count.unwrap_or(0);
        for key in keys.split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
            command.env(format!("GIT_CONFIG_KEY_{count}"), path_of(key));
            command.env(format!("GIT_CONFIG_VALUE_{count}"), "");
            count += 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        command
    }

    fn run(&self, args: &[&str]) -> anyhow::Result<Vec<u8>> {
        output_of(&mut self.git(args))
    }

    /// The same for one path in the work tree, which Git takes literally.
    fn run_on(&self, args: &[&str], path: &Path) -> anyhow::Result<Vec<u8>> {
        output_of(self.git(args).arg("--").arg(if path == Path::new("") {
            OsStr::new(".")
        } else {
            path.as_os_str()
        }))
    }

    /// From the root to the current folder.
    pub(crate) fn prefix(&self) -> Result<PathBuf, Failure> {
        let here = std::env::current_dir().and_then(std::fs::canonicalize);
        let here = here.context("cannot find the current folder")?;
        let prefix = here.strip_prefix(&self.root).map_err(|_| anyhow!("not in this work tree"))?;
        Ok(prefix.to_owned())
    }

    /// What Git has or would add at a path in the work tree or below it.
    pub(crate) fn listed(&self, real: &Path) -> Result<Vec<Listed>, Failure> {
        let within = real.strip_prefix(&self.root).unwrap_or(Path::new(""));
        let list = ["ls-files", "-t", "-z", "--cached", "--others", "--exclude-standard"];
        let listed = self
            .run_on(&list, within)
            .with_context(|| format!("cannot list the files of {}", self.root.display()))?;
        // `<tag> <path>`
        let listed = entries(&listed).filter_map(|entry| entry.split_at_checked(2));
        let mut listed: Vec<_> = listed
            .map(|(tag, path)| Listed {
                path: path_of(path.strip_suffix(b"/").unwrap_or(path)),
                standing: if tag == b"? " { Standing::Untracked } else { Standing::Tracked },
                is_skipped: tag == b"S ",
            })
            .collect();
        // In a merge, a file is listed up to three times.
        listed.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        listed.dedup_by(|one, other| one.path == other.path);
        Ok(listed)
    }

    /// Whether Git ignores a path, unless it is tracked.
    pub(crate) fn ignores(&self, real: &Path) -> bool {
        let within = real.strip_prefix(&self.root).unwrap_or(Path::new(""));
        let is_within = within != Path::new("");
        is_within && self.run_on(&["check-ignore", "--quiet", "--no-index"], within).is_ok()
    }

    /// The files of a branch, tag or commit.
    pub(crate) fn files(&self, git_ref: &str) -> Result<Vec<Blob>, Failure> {
        self.list(git_ref).or_hint(
            "name an existing branch, tag or commit; in a shallow clone, run git fetch --unshallow first",
        )
    }

    /// The files that differ from a branch, tag or commit, relative to the root of the work tree.
    pub(crate) fn changed_since(&self, git_ref: &str) -> Result<HashSet<PathBuf>, Failure> {
        let changed = self
            .resolved(git_ref, "commit")
            .and_then(|commit| {
                let list = ["diff-index", "-z", "--name-only", "--no-renames", &commit, "--"];
                output_of(&mut self.git_without_filters(&list))
            })
            .or_hint("name an existing branch, tag or commit; in a shallow clone, run git fetch --unshallow first")?;
        Ok(entries(&changed).map(path_of).collect())
    }

    /// The files that the next commit would have.
    pub(crate) fn staged_files(&self) -> Result<Vec<Blob>, Failure> {
        let listed =
            self.run(&["ls-files", "--stage", "-z"]).context("cannot list the staged files")?;
        // `<mode> <id> <stage>\t<path>`; in a merge a file has up to three stages, and ours is the second.
        let mut blobs = Vec::new();
        for (about, path) in described(&listed)? {
            let [mode, id, stage] = about;
            if ["0", "2"].contains(&stage.as_str()) {
                blobs.push(Blob::new("", &mode, id, path));
            }
        }
        Ok(blobs)
    }

    /// Whether Git knows a commit by this name.
    pub(crate) fn is_commit(&self, git_ref: &str) -> bool {
        self.resolved(git_ref, "tree").is_ok()
    }

    /// The last common commit of two revisions.
    pub(crate) fn merge_base(&self, one: &str, other: &str) -> Result<String, Failure> {
        let found = self
            .run(&["merge-base", "--", one, other])
            .map_err(|_| anyhow!("{one} and {other} have no commit in common"));
        let found = found.or_hint("in a shallow clone, run git fetch --unshallow first")?;
        Ok(String::from_utf8_lossy(&found).trim().to_owned())
    }

    /// Shows each of these files to `look`, less those that are larger than any manifest.
    pub(crate) fn read(
        &self,
        blobs: &[Blob],
        mut look: impl FnMut(&Blob, &[u8]),
    ) -> Result<(), Failure> {
        Ok(self.read_in_order(blobs, &mut look).context("cannot read files from Git")?)
    }

    /// Shows each file that may have sealed values to `look`. Content that several commits share is shown once.
    pub(crate) fn read_sealed(
        &self,
        git_refs: &[String],
        mut look: impl FnMut(&Blob, &[u8]),
    ) -> Result<(), Failure> {
        let mut blobs = Vec::new();
        let mut seen = HashSet::new();
        for git_ref in git_refs {
            let files = self.files(git_ref)?.into_iter();
            blobs.extend(files.filter(|blob| seen.insert(blob.id.clone())));
        }
        self.read(&blobs, |blob, content| {
            if memmem::find(content, WORD).is_some() {
                look(blob, content);
            }
        })
    }

    fn list(&self, git_ref: &str) -> anyhow::Result<Vec<Blob>> {
        let tree = self.resolved(git_ref, "tree")?;
        let listed = self
            .run(&["ls-tree", "-r", "-z", "--full-tree", &tree])
            .with_context(|| format!("cannot list the files of {git_ref}"))?;
        // `<mode> <type> <id>\t<path>`
        let mut blobs = Vec::new();
        for (about, path) in described(&listed)? {
            let [mode, kind, id] = about;
            if kind == "blob" {
                blobs.push(Blob::new(git_ref, &mode, id, path));
            }
        }
        Ok(blobs)
    }

    /// One process for all files. Requests and answers flow at the same time.
    fn read_in_order(
        &self,
        blobs: &[Blob],
        look: &mut impl FnMut(&Blob, &[u8]),
    ) -> anyhow::Result<()> {
        let mut child = self
            .git(&["cat-file", "--batch"])
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

    /// The id of the commit or tree that a revision leads to.
    fn resolved(&self, git_ref: &str, kind: &str) -> anyhow::Result<String> {
        let name = format!("{git_ref}^{{{kind}}}");
        let id = self
            .run(&["rev-parse", "--quiet", "--verify", "--end-of-options", &name])
            .map_err(|_| anyhow!(no_revision(git_ref)))?;
        Ok(String::from_utf8_lossy(&id).trim().to_owned())
    }
}

impl Blob {
    fn new(git_ref: &str, mode: &str, id: String, path: PathBuf) -> Self {
        let name = format!("{git_ref}:{}", path.display());
        Self { id, name, path, is_link: mode == "120000" }
    }

    /// Whether two files have the same bytes.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.is_link == other.is_link
    }
}

/// The error for a revision that does not exist. Before the first commit, not even HEAD exists.
fn no_revision(git_ref: &str) -> String {
    match git_ref {
        "HEAD" => "no commits yet, so nothing to compare with".to_owned(),
        git_ref => format!("no such revision: {git_ref}"),
    }
}

/// What Git lists with `-z`.
fn entries(listed: &[u8]) -> impl Iterator<Item = &[u8]> {
    listed.split(|byte| *byte == 0).filter(|entry| !entry.is_empty())
}

/// The same, where each entry is three words and a path.
fn described(listed: &[u8]) -> anyhow::Result<Vec<([String; 3], PathBuf)>> {
    let entry = |entry: &[u8]| {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        let about = String::from_utf8_lossy(&entry[..tab]);
        let about: Vec<_> = about.split(' ').map(str::to_owned).collect();
        Some((about.try_into().ok()?, path_of(&entry[tab + 1..])))
    };
    entries(listed).map(|bytes| entry(bytes).context("unexpected output from git")).collect()
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
