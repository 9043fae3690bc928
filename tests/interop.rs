//! Sealed values and other implementations of age, in both directions: the reference in Go, typage in TypeScript, and
//! the Rust crate, which supports only X25519.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    slice::from_ref,
    sync::LazyLock,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use bulla_sealing::{
    Binding, Identity, KeyType, Keyring, ParseError, Recipient, Recipients, Scope, SealedValue,
    ValueAddress, seal,
};
use bulla_tests::{Folder, Program, program};
use serde_json::{Value, json};

/// The size of age's chunks, 64 KiB.
const CHUNK: usize = 64 * 1024;
const SIZES: [usize; 8] = [0, 1, 32, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 1 << 20];
const COUNTS: [usize; 5] = [1, 2, 6, 12, 40];
const KEY_TYPES: [KeyType; 2] = [KeyType::Hybrid, KeyType::X25519];

/// A file that a reader must open with an identity alone.
struct Case {
    what: String,
    key_type: KeyType,
    file: Vec<u8>,
    identity: String,
    plaintext: Vec<u8>,
}

/// Every size for every number of recipients, opened by the last recipient. At the size of a typical password, opened
/// by every recipient. The identities come from all implementations in turn.
fn sealed_here() -> Result<&'static [Case]> {
    static CASES: LazyLock<Result<Vec<Case>>> = LazyLock::new(|| {
        let mut cases = Vec::new();
        for key_type in KEY_TYPES {
            let keys = Key::from_all_makers(key_type)?;
            for count in COUNTS {
                let recipients = recipients(&keys[..count])?;
                for size in SIZES {
                    let plaintext = plaintext(size);
                    let file = seal(&plaintext, &binding()?, &recipients)?;
                    let openers = if size == 32 { 0..count } else { count - 1..count };
                    cases.extend(keys[openers].iter().map(|key| Case {
                        what: format!(
                            "{size} B, {count} {key_type} recipients, key of {}",
                            key.maker
                        ),
                        key_type,
                        file: file.clone(),
                        identity: key.identity.clone(),
                        plaintext: plaintext.clone(),
                    }));
                }
            }
        }
        Ok(cases)
    });
    shared(&CASES).map(Vec::as_slice)
}

#[test]
fn go_age_opens_values_sealed_by_bulla() -> Result<()> {
    opens_each(sealed_here()?.iter(), 192, go_age_open)
}

#[test]
fn rust_age_opens_values_sealed_by_bulla() -> Result<()> {
    let cases = sealed_here()?.iter().filter(|case| case.key_type == KeyType::X25519);
    opens_each(cases, 96, rust_age_open)
}

#[test]
fn typage_opens_values_sealed_by_bulla() -> Result<()> {
    let mut results = typage_open(sealed_here()?)?.into_iter();
    opens_each(sealed_here()?.iter(), 192, |_| results.next().context("no result")?)
}

#[test]
fn bulla_opens_values_sealed_to_keys_of_other_implementations() -> Result<()> {
    opens_each(sealed_here()?.iter(), 192, |case| {
        let keyring = Keyring::from_iter([Identity::parse(&case.identity)?]);
        Ok(SealedValue::parse(&case.file)?.unseal(&target()?, &keyring)?.as_bytes().to_vec())
    })
}

/// Fails also if the number of cases differs from `expected`, so that no test passes without a case.
fn opens_each<'a>(
    cases: impl Iterator<Item = &'a Case>,
    expected: usize,
    mut open: impl FnMut(&Case) -> Result<Vec<u8>>,
) -> Result<()> {
    let mut opened = 0;
    for case in cases {
        let plaintext = open(case).with_context(|| case.what.clone())?;
        ensure!(plaintext == case.plaintext, "{}: other bytes", case.what);
        opened += 1;
    }
    ensure!(opened == expected, "{opened} values were opened, not {expected}");
    Ok(())
}

/// Values whose header was changed after sealing, each with an identity that opens the original.
fn tampered() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for key_type in KEY_TYPES {
        let key = Key::ours(key_type)?;
        let identity = &key.identity;
        let file = seal(b"correct horse", &binding()?, &recipients(from_ref(&key))?)?;
        let end = file.windows(5).position(|bytes| bytes == b"\n--- ").context("no header MAC")?;
        let header = str::from_utf8(&file[..end])?;
        let stanza = header.split_inclusive('\n').skip(1).take(2).collect::<String>();
        for (what, changed) in [
            ("another namespace", header.replacen("prod", "dev", 1)),
            ("another name", header.replacen(" db ", " cache ", 1)),
            ("another key", header.replacen("password", "user", 1)),
            ("another scope", header.replacen("strict prod db", "cluster - -", 1)),
            ("an argument more", header.replacen("password", "password more", 1)),
            ("another tag", header.replacen("bulla.dev/v1", "bulla.dev/v2", 1)),
            ("no fingerprint", {
                let body = stanza.lines().nth(1).context("no body")?;
                header.replacen(body, "", 1)
            }),
            ("no binding", header.replacen(&stanza, "", 1)),
            ("two bindings", header.replacen(&stanza, &stanza.repeat(2), 1)),
        ] {
            ensure!(changed != header, "{what}: nothing changed");
            cases.push(Case {
                what: format!("{key_type} with {what}"),
                key_type,
                file: [changed.as_bytes(), &file[end..]].concat(),
                identity: identity.clone(),
                plaintext: Vec::new(),
            });
        }
    }
    Ok(cases)
}

#[test]
fn every_reader_refuses_a_tampered_binding() -> Result<()> {
    let cases = tampered()?;
    ensure!(cases.len() == 18);
    for (case, typage) in cases.iter().zip(typage_open(&cases)?) {
        let refusal = typage.err().with_context(|| format!("typage opens {}", case.what))?;
        ensure!(refusal.to_string().contains("HMAC"), "typage on {}: {refusal}", case.what);
        let refusal = go_age_open(case).err().with_context(|| format!("Go opens {}", case.what))?;
        ensure!(refusal.to_string().contains("bad header MAC"), "Go on {}: {refusal}", case.what);
        if case.key_type == KeyType::X25519 {
            let refusal = rust_age_open(case).err();
            let refusal = refusal.with_context(|| format!("Rust opens {}", case.what))?;
            ensure!(refusal.to_string().contains("MAC"), "Rust on {}: {refusal}", case.what);
        }
    }
    Ok(())
}

#[test]
fn age_keygen_derives_bullas_recipients() -> Result<()> {
    let keys: Vec<Key> = [[KeyType::Hybrid; 10], [KeyType::X25519; 10]]
        .concat()
        .into_iter()
        .map(Key::ours)
        .collect::<Result<_>>()?;
    let identities: String = keys.iter().map(|key| format!("{}\n", key.identity)).collect();
    let derived = run(Command::new(go_tool("age-keygen")?).arg("-y"), identities.as_bytes())?;
    let ours: String = keys.iter().map(|key| format!("{}\n", key.recipient)).collect();
    ensure!(str::from_utf8(&derived)? == ours);
    Ok(())
}

#[test]
fn bulla_reads_keys_of_other_implementations() -> Result<()> {
    let mut read = 0;
    for key_type in KEY_TYPES {
        for key in Key::from_all_makers(key_type)? {
            let identity = Identity::parse(&key.identity).context(key.maker)?;
            let recipient: Recipient = key.recipient.parse().context(key.maker)?;
            ensure!(recipient == identity.recipient() && recipient.key_type() == key_type);
            ensure!(
                *identity.to_secret_string() == key.identity && recipient.as_str() == key.recipient
            );
            read += 1;
        }
    }
    ensure!(read == 80, "only {read} keys were read");
    Ok(())
}

#[test]
fn a_plain_age_file_is_refused_only_for_its_missing_binding() -> Result<()> {
    let mut files = Vec::new();
    let mut typage_jobs = Vec::new();
    for key_type in KEY_TYPES {
        let recipient = Key::ours(key_type)?.recipient;
        for plaintext in SIZES.map(plaintext) {
            files.push(run(Command::new(go_tool("age")?).args(["-r", &recipient]), &plaintext)?);
            let plaintext_base64 = BASE64_STANDARD.encode(&plaintext);
            typage_jobs.push(json!({
                "verb": "write", "plaintext": plaintext_base64, "recipients": [recipient],
            }));
            if key_type == KeyType::X25519 {
                let recipient: age::x25519::Recipient =
                    recipient.parse().map_err(anyhow::Error::msg)?;
                files.push(age::encrypt(&recipient, &plaintext)?);
            }
        }
    }
    for result in typage(&Value::from(typage_jobs))? {
        files.push(typage_bytes(&result, "file")?);
    }
    ensure!(files.len() == 40);
    for file in files {
        ensure!(matches!(SealedValue::parse(&file), Err(ParseError::NoBinding)));
    }
    Ok(())
}

#[test]
fn bulla_opens_a_value_sealed_by_typage() -> Result<()> {
    let scopes = [
        (Scope::Strict, ["strict", "prod", "db", "password"]),
        (Scope::Namespace, ["namespace", "prod", "-", "password"]),
        (Scope::Cluster, ["cluster", "-", "-", "password"]),
    ];
    let mut jobs = Vec::new();
    let mut expected = Vec::new();
    for key_type in KEY_TYPES {
        let keys = Key::from_all_makers(key_type)?;
        for (scope, count) in scopes.iter().flat_map(|scope| COUNTS.map(|count| (scope, count))) {
            let sizes = if scope.0 == Scope::Strict { &SIZES[..] } else { &[32] };
            for plaintext in sizes.iter().map(|&size| BASE64_STANDARD.encode(plaintext(size))) {
                let recipients: Vec<_> = keys[..count].iter().map(|key| &key.recipient).collect();
                jobs.push(json!({
                    "verb": "write", "plaintext": plaintext, "recipients": recipients, "binding": scope.1,
                }));
                expected.push((scope.0, plaintext, keys[count - 1].identity.clone()));
            }
        }
    }
    let results = typage(&Value::from(jobs))?;
    ensure!(results.len() == 100 && expected.len() == 100);
    for (result, (scope, plaintext, identity)) in results.iter().zip(expected) {
        let file = typage_bytes(result, "file")?;
        let sealed_value = SealedValue::parse(&file)?;
        ensure!(*sealed_value.binding() == Binding::new(scope, &target()?));
        let keyring = Keyring::from_iter([Identity::parse(&identity)?]);
        let opened = sealed_value.unseal(&target()?, &keyring)?;
        ensure!(BASE64_STANDARD.encode(opened.as_bytes()) == plaintext);
    }
    Ok(())
}

#[test]
fn go_age_opens_a_rekeyed_file_only_with_the_new_identity() -> Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "prod"},
        "data": {"empty": "", "large": BASE64_STANDARD.encode(plaintext(CHUNK + 1)), "password": BASE64_STANDARD.encode("correct horse")},
    });
    for (from, to) in KEY_TYPES.into_iter().flat_map(|from| KEY_TYPES.map(|to| (from, to))) {
        let (old, new) = (Key::go(from)?, Key::go(to)?);
        let folder = Folder::new("bulla-interop-")?;
        let bulla = |args: &[&str], input: &[u8]| {
            let mut bulla = Command::new(program(Program::Bulla)?);
            run(bulla.args(args).current_dir(folder.path()), input)
        };
        fs::write(folder.path().join("old.txt"), &old.identity)?;
        let file = folder.path().join("db.yaml");
        fs::write(&file, bulla(&["seal", "-r", &old.recipient], secret.to_string().as_bytes())?)?;
        ensure!(opened_by_go(&file, &old)? == secret["data"]);
        bulla(&["rekey", "-i", "old.txt", "-r", &new.recipient, "db.yaml"], b"")?;
        ensure!(opened_by_go(&file, &new)? == secret["data"], "{from} to {to}: other values");
        let refusal =
            opened_by_go(&file, &old).err().context("Go opens it with the old identity")?;
        ensure!(refusal.to_string().contains("no identity matched"), "Go reports: {refusal}");
    }
    Ok(())
}

/// The values of a SealedSecret's manifest, in base64.
fn opened_by_go(manifest: &Path, key: &Key) -> Result<Value> {
    let manifest = fs::read_to_string(manifest)?;
    // One value on each line, until the next field.
    let values = manifest.lines().skip_while(|line| !line.ends_with("sealedData:")).skip(1);
    values
        .map_while(|line| line.strip_prefix("    "))
        .map(|line| {
            let (data_key, value) = line.split_once(": ").context("no value")?;
            let file = BASE64_STANDARD.decode(value)?;
            let (identity, key_type) = (key.identity.clone(), KeyType::X25519);
            let case =
                Case { what: String::new(), key_type, file, identity, plaintext: Vec::new() };
            Ok((data_key.to_owned(), BASE64_STANDARD.encode(go_age_open(&case)?).into()))
        })
        .collect::<Result<serde_json::Map<_, _>>>()
        .map(Value::from)
}

fn target() -> Result<ValueAddress> {
    Ok(ValueAddress::new("prod", "db", "password")?)
}

fn binding() -> Result<Binding> {
    Ok(Binding::new(Scope::Strict, &target()?))
}

fn plaintext(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index % 251) as u8).collect()
}

fn recipients(keys: &[Key]) -> Result<Recipients> {
    let recipients = keys.iter().map(|key| Ok(key.recipient.parse()?)).collect::<Result<_>>()?;
    Ok(Recipients::new(recipients)?)
}

/// A key pair as text, and the implementation that made it.
#[derive(Clone)]
struct Key {
    maker: &'static str,
    identity: String,
    recipient: String,
}

impl Key {
    fn ours(key_type: KeyType) -> Result<Self> {
        let identity = Identity::generate(key_type)?;
        Ok(Self {
            maker: "ours",
            identity: identity.to_secret_string().to_string(),
            recipient: identity.recipient().to_string(),
        })
    }

    fn go(key_type: KeyType) -> Result<Self> {
        let mut age_keygen = Command::new(go_tool("age-keygen")?);
        if key_type == KeyType::Hybrid {
            age_keygen.arg("-pq");
        }
        let file = String::from_utf8(run(&mut age_keygen, b"")?)?;
        let recipient = file.lines().find_map(|line| line.strip_prefix("# public key: "));
        let identity = file.lines().find(|line| line.starts_with("AGE-SECRET-KEY-"));
        Ok(Self {
            maker: "Go age",
            identity: identity.context("no identity")?.into(),
            recipient: recipient.context("no recipient")?.into(),
        })
    }

    fn typage(key_type: KeyType, count: usize) -> Result<Vec<Self>> {
        let job = json!({"verb": "generate", "keyType": key_type.as_str()});
        let text = |result: &Value, field: &str| -> Result<String> {
            Ok(result[field].as_str().with_context(|| format!("typage: {result}"))?.into())
        };
        let results = typage(&Value::from(vec![job; count]))?;
        results
            .iter()
            .map(|result| {
                Ok(Self {
                    maker: "typage",
                    identity: text(result, "identity")?,
                    recipient: text(result, "recipient")?,
                })
            })
            .collect()
    }

    /// 40 keys of three implementations in turn.
    fn from_all_makers(key_type: KeyType) -> Result<Vec<Self>> {
        let mut keys = Vec::new();
        for typage in Self::typage(key_type, 13)? {
            keys.extend([Self::go(key_type)?, typage, Self::ours(key_type)?]);
        }
        keys.push(Self::go(key_type)?);
        Ok(keys)
    }
}

fn go_age_open(case: &Case) -> Result<Vec<u8>> {
    let folder = Folder::new("bulla-interop-")?;
    let identity = folder.path().join("identity.txt");
    fs::write(&identity, &case.identity)?;
    run(Command::new(go_tool("age")?).arg("--decrypt").arg("--identity").arg(identity), &case.file)
}

fn rust_age_open(case: &Case) -> Result<Vec<u8>> {
    let identity: age::x25519::Identity = case.identity.parse().map_err(anyhow::Error::msg)?;
    Ok(age::decrypt(&identity, &case.file)?)
}

/// One process for all cases.
fn typage_open(cases: &[Case]) -> Result<Vec<Result<Vec<u8>>>> {
    let jobs: Vec<Value> = cases
        .iter()
        .map(|case| {
            let file = BASE64_STANDARD.encode(&case.file);
            json!({"verb": "open", "file": file, "identity": case.identity})
        })
        .collect();
    let results = typage(&Value::from(jobs))?;
    ensure!(results.len() == cases.len());
    Ok(results.iter().map(|result| typage_bytes(result, "plaintext")).collect())
}

fn typage_bytes(result: &Value, field: &str) -> Result<Vec<u8>> {
    match result[field].as_str() {
        Some(bytes) => Ok(BASE64_STANDARD.decode(bytes)?),
        None => bail!("typage: {}", result["error"]),
    }
}

fn typage(jobs: &Value) -> Result<Vec<Value>> {
    static SCRIPT: LazyLock<Result<PathBuf>> = LazyLock::new(|| {
        let folder = built("typage")?;
        let lock = File::create(folder.join(".lock"))?;
        lock.lock()?;
        let lock_file = fs::read(Path::new(MODULE).join("package-lock.json"))?;
        let is_installed =
            fs::read(folder.join("installed")).is_ok_and(|installed| installed == lock_file);
        for file in ["package.json", "package-lock.json", "typage.mjs"] {
            fs::copy(Path::new(MODULE).join(file), folder.join(file))?;
        }
        if !is_installed {
            let mut npm = Command::new("npm");
            npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder);
            run(&mut npm, b"")
                .context("typage cannot be installed, which needs Node.js and npm")?;
            fs::write(folder.join("installed"), lock_file)?;
        }
        Ok(folder.join("typage.mjs"))
    });
    let results = run(Command::new("node").arg(shared(&SCRIPT)?), jobs.to_string().as_bytes())?;
    Ok(serde_json::from_slice(&results)?)
}

/// `age` or `age-keygen`, built from their Go module.
fn go_tool(name: &str) -> Result<PathBuf> {
    static FOLDER: LazyLock<Result<PathBuf>> = LazyLock::new(|| {
        let folder = built("go")?;
        let lock = File::create(folder.join(".lock"))?;
        lock.lock()?;
        let mut go = Command::new("go");
        go.args(["build", "-buildvcs=false", "-mod=readonly", "-trimpath", "-o"]).arg(&folder);
        go.arg("tool").current_dir(MODULE).env("GOWORK", "off");
        run(&mut go, b"").context("age cannot be built, which needs Go")?;
        Ok(folder)
    });
    Ok(shared(&FOLDER)?.join(name))
}

/// The shared value, or the error of the attempt to make it.
fn shared<T>(made: &'static LazyLock<Result<T>>) -> Result<&'static T> {
    made.as_ref().map_err(|error| anyhow!("{error:#}"))
}

/// The folder whose lock files pin the versions of the other implementations.
const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/interop");

/// A folder for programs that are built once per work tree.
fn built(name: &str) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/interop").join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder.canonicalize()?)
}

/// Runs a program and returns its output, or fails with its standard error.
fn run(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let mut stderr = child.stderr.take().context("no standard error")?;
    let (output, errors) = std::thread::scope(|scope| {
        // A program that refuses early does not read all of its input.
        scope.spawn(move || stdin.write_all(input));
        let errors = scope.spawn(move || {
            let mut errors = String::new();
            stderr.read_to_string(&mut errors).map(|_| errors)
        });
        (child.wait_with_output(), errors.join())
    });
    let (output, errors) = (output?, errors.map_err(|_| anyhow!("{name} panicked"))??);
    ensure!(output.status.success(), "{name}: {}", errors.trim());
    Ok(output.stdout)
}
