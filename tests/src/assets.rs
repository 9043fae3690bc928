//! The control plane's programs: taken from the folder `KUBEBUILDER_ASSETS` if it is set, else built from Go modules.

use std::{
    env,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// The Go module that pins the version of everything built here.
const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster");

/// Not below `CARGO_TARGET_DIR`: these programs take minutes to build, so they are built once per work tree.
const BUILT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/cluster");

/// A program from another project, or `kstatus`, which wraps a library of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asset {
    /// The API server's store.
    Etcd,
    /// The API server.
    ApiServer,
    /// Garbage collection, namespaces, service accounts.
    ControllerManager,
    /// The command line client.
    Kubectl,
    /// The program that evaluates an object's status, `tests/cluster/kstatus`.
    Kstatus,
}

impl Asset {
    /// The path of the program. Builds it if the Go module has changed since the last build. The first build takes
    /// minutes.
    ///
    /// # Errors
    ///
    /// When it does not build, or `KUBEBUILDER_ASSETS` is set and lacks it.
    pub fn path(self) -> Result<PathBuf> {
        let Some(folder) = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
            return self.build();
        };
        let path = folder.join(self.file_name());
        match self {
            _ if path.exists() => Ok(path),
            Self::ControllerManager | Self::Kstatus => self.build(),
            Self::Etcd | Self::ApiServer | Self::Kubectl => {
                bail!("KUBEBUILDER_ASSETS has no {}", self.file_name())
            }
        }
    }

    const fn file_name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::Kstatus => "kstatus",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::ApiServer => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::ControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Kstatus => "./kstatus",
        }
    }

    fn build(self) -> Result<PathBuf> {
        let folder = Path::new(BUILT);
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;

        let program = folder.join(self.file_name());
        let stamp = program.with_extension("stamp");
        let sources = Sources::read()?;
        let args = self.go_args(&sources, &program)?;
        let today = sources.stamp(&args);
        if program.exists() && fs::read_to_string(&stamp).is_ok_and(|built| built == today) {
            return Ok(program);
        }
        writeln!(
            io::stderr(),
            "building {} from Go modules (some minutes the first time)",
            self.file_name()
        )?;
        let status = Command::new("go")
            .args(&args)
            .current_dir(MODULE)
            .env("GOWORK", "off")
            .stdin(Stdio::null())
            // Standard output belongs to Cargo's tests.
            .stdout(io::stderr())
            .status()
            .context("cannot run go, which cluster tests need unless KUBEBUILDER_ASSETS is set")?;
        ensure!(status.success(), "{} does not build", self.file_name());
        fs::write(stamp, today)?;
        Ok(program)
    }

    fn go_args(self, sources: &Sources, program: &Path) -> Result<Vec<String>> {
        let version = sources.kubernetes_version()?;
        // Without these flags the programs report version v0.0.0.
        let link = format!(
            "-s -w -X k8s.io/component-base/version.gitVersion={version} \
             -X k8s.io/client-go/pkg/version.gitVersion={version}"
        );
        let program = program.to_str().context("the work tree's path is not Unicode")?;
        // No version control stamp: it fails in a checkout of another owner, and causes a rebuild at each commit.
        let words = [
            "build",
            "-buildvcs=false",
            "-mod=readonly",
            "-trimpath",
            "-ldflags",
            &link,
            "-o",
            program,
            self.package(),
        ];
        Ok(words.map(str::to_owned).to_vec())
    }
}

/// The files of this repository that the programs are built from.
struct Sources {
    module: String,
    sums: String,
    kstatus: String,
}

impl Sources {
    fn read() -> Result<Self> {
        let read = |path: &str| {
            fs::read_to_string(Path::new(MODULE).join(path))
                .with_context(|| format!("cannot read {path}"))
        };
        Ok(Self {
            module: read("go.mod")?,
            sums: read("go.sum")?,
            kstatus: read("kstatus/main.go")?,
        })
    }

    /// The text of the stamp file beside a program. It holds all inputs, so an equal stamp means an up-to-date program.
    fn stamp(&self, args: &[String]) -> String {
        format!("{args:?}\n{}{}{}", self.module, self.sums, self.kstatus)
    }

    fn kubernetes_version(&self) -> Result<&str> {
        self.module
            .lines()
            .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
            .and_then(|version| version.split_whitespace().next())
            .context("go.mod requires no k8s.io/kubernetes")
    }
}
