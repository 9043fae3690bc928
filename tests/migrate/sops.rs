//! Files of SOPS, encrypted and decrypted by SOPS itself.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::site::{Run, Site, masked, sops};

/// A folder with an age key for SOPS, and the program on the path.
struct Encrypted {
    site: Site,
    path: String,
    recipient: String,
}

impl Encrypted {
    fn new() -> Result<Self> {
        let site = Site::new()?;
        let generate = ["keys", "generate", "--type", "x25519", "-o", "age.txt"];
        let recipient = site.done(&generate)?.trim().to_owned();
        let path = format!("{}:{}", sops()?.display(), std::env::var("PATH")?);
        Ok(Self { site, path, recipient })
    }

    /// Writes `text` to a file, encrypted.
    fn write(&self, name: &str, text: &str, flags: &[&str]) -> Result<()> {
        self.site.write(name, text)?;
        let output = Command::new(sops()?.join("sops"))
            .args(["encrypt", "--age", &self.recipient])
            .args(flags)
            .arg(self.site.path(name))
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.site.write(name, output.stdout)
    }

    fn migrate_with(&self, key: &str, args: &[&str]) -> Result<Run> {
        let args = [&["migrate", "-R", "recipient.txt"], args].concat();
        let key = self.site.path(key);
        let key = key.to_str().context("no text")?;
        self.site.run_with(&args, &[("PATH", &self.path), ("SOPS_AGE_KEY_FILE", key)])
    }

    fn migrate(&self, args: &[&str]) -> Result<Run> {
        self.migrate_with("age.txt", args)
    }
}

const DATA_ONLY: [&str; 2] = ["--encrypted-regex", "^(data|stringData)$"];

const SECRETS: &str = "\
# the shop's
apiVersion: v1
kind: Secret
metadata:
  name: db # a name
  namespace: shop
  labels:
    # who is called
    team: storage
type: kubernetes.io/basic-auth # a type
# the values
stringData:
  # a password
  password: hunter2 # old
  username: |
    app
    two
data:
  more: aHVudGVyMg==
# the end
---
# the second
apiVersion: v1
kind: Secret
metadata: {name: second, namespace: shop}
data:
  k: aHVudGVyMg==
";

#[test]
fn secrets_become_sealed_secrets_with_their_comments() -> Result<()> {
    let files = Encrypted::new()?;
    files.write("db.yaml", SECRETS, &DATA_ONLY)?;
    // A plaintext comment, as older versions of SOPS left them. Newer versions read them.
    let text = files.site.read("db.yaml")?;
    files
        .site
        .write("db.yaml", text.replacen("    password:", "    # by hand\n    password:", 1))?;
    let run = files.migrate(&["db.yaml"])?;
    ensure!(run.code == 0, "{}", run.stderr);
    ensure!(
        run.stdout
            == "db.yaml: 2 objects migrated\n  shop/db: 3 values from sops, scope strict\n  shop/second: 1 value from sops, scope strict\n",
        "{}",
        run.stdout
    );
    ensure!(
        run.stderr
            == "note: db.yaml: document 1, line 2: shop/db: 2 comments that SOPS had encrypted are left out: they would become plaintext\n1 file, 2 objects from other tools: 2 migrated with 4 values\n",
        "{}",
        run.stderr
    );
    let text = files.site.read("db.yaml")?;
    let expected = "\
# the shop's
apiVersion: bulla.dev/v1alpha1
kind: SealedSecret
metadata:
    name: db # a name
    namespace: shop
# the values
spec:
    sealedData:
        # by hand
        password: ...
        username: ...
        more: ...
    template:
        metadata:
            labels:
                # who is called
                team: storage
        type: kubernetes.io/basic-auth # a type
# the end
---
# the second
apiVersion: bulla.dev/v1alpha1
kind: SealedSecret
metadata:
    name: second
    namespace: shop
spec:
    sealedData:
        k: ...
";
    ensure!(masked(&text) == expected, "{text}");
    files.site.done(&["lint", "db.yaml"])?;
    let first = text.split("---\n").next().context("no document")?;
    files.site.write("one.yaml", first)?;
    let values = files.site.values("one.yaml")?;
    ensure!(values["password"] == b"hunter2" && values["more"] == b"hunter2");
    ensure!(values["username"] == b"app\ntwo\n");
    Ok(())
}

#[test]
fn readable_metadata_of_a_file_encrypted_as_a_whole_is_reported() -> Result<()> {
    let files = Encrypted::new()?;
    files.write("db.yaml", SECRETS, &[])?;
    let run = files.migrate(&["--dry-run", "db.yaml"])?;
    ensure!(run.code == 0 && files.site.read("db.yaml")?.contains("sops:"), "{}", run.stderr);
    let run = files.migrate(&["db.yaml"])?;
    ensure!(run.code == 0, "{}", run.stderr);
    ensure!(
        run.stderr.contains("shop/db: metadata that SOPS had encrypted is now plaintext"),
        "{}",
        run.stderr
    );
    let text = files.site.read("db.yaml")?;
    ensure!(
        !text.contains("ENC[") && !text.contains("sops") && text.contains("team: storage"),
        "{text}"
    );
    files.site.done(&["unseal", "--check", "-i", "identity.txt", "db.yaml"])?;
    Ok(())
}

#[test]
fn json_stays_json() -> Result<()> {
    let files = Encrypted::new()?;
    let secret = r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "stringData": {"a": "hunter2"}}"#;
    files.write("db.json", secret, &DATA_ONLY)?;
    let run = files.migrate(&["db.json"])?;
    ensure!(
        run.code == 1 && run.stderr.contains("scope strict needs a namespace"),
        "{}",
        run.stderr
    );
    let run = files.migrate(&["-n", "shop", "db.json"])?;
    ensure!(run.code == 0, "{}", run.stderr);
    let text = files.site.read("db.json")?;
    let expected = r#"{
	"apiVersion": "bulla.dev/v1alpha1",
	"kind": "SealedSecret",
	"metadata": {
		"name": "db",
		"namespace":"shop"
	},
	"spec": {"sealedData": {
		"a": "..."
	}}
}
"#;
    ensure!(masked(&text) == expected, "{text}");
    ensure!(files.site.values("db.json")?["a"] == b"hunter2");
    Ok(())
}

#[test]
fn a_file_that_cannot_be_migrated_stays_unchanged_and_is_reported() -> Result<()> {
    let files = Encrypted::new()?;
    let secret = SECRETS.split("---\n").nth(1).context("no document")?;
    let config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: hunter2}\n";
    files.write("good.yaml", secret, &DATA_ONLY)?;
    files.write("mixed.yaml", &format!("{secret}---\n{config_map}"), &DATA_ONLY)?;
    files.write("map.yaml", config_map, &DATA_ONLY)?;
    files.write("hidden-map.yaml", config_map, &[])?;
    files.write("values.yaml", "password: hunter2\n", &[])?;
    files.write(
        "no-base64.yaml",
        &secret.replace("aHVudGVyMg==", "hunter2 hunter2"),
        &DATA_ONLY,
    )?;
    files.write(
        "leaky.yaml",
        &secret.replace("namespace: shop", "namespace: shop, labels: {a: hunter2}"),
        &DATA_ONLY,
    )?;
    files.write("edited.yaml", secret, &DATA_ONLY)?;
    let edited = files.site.read("edited.yaml")?;
    files.site.write("edited.yaml", edited.replace("name: second", "name: third"))?;
    let names = ["mixed", "map", "hidden-map", "values", "no-base64", "leaky", "edited"];
    let before: Vec<_> =
        names.iter().map(|name| files.site.read(&format!("{name}.yaml"))).collect::<Result<_>>()?;
    let run = files.migrate(&["."])?;
    ensure!(run.code == 1, "{}", run.stderr);
    ensure!(run.stdout.starts_with("good.yaml: 1 object migrated\n"), "{}", run.stdout);
    for told in [
        "error: mixed.yaml: contains objects other than Secrets",
        "error: hidden-map.yaml, decrypted: document 1, line 1: kind ConfigMap of v1 is not supported here",
        "error: no-base64.yaml, decrypted: document 1, line 8: data.k: not base64",
        "error: leaky.yaml: document 1, line 2: shop/second: label a contains the plaintext of key k",
        "error: edited.yaml: its MAC does not match: the file was changed without sops, or is damaged",
        "hint: to see its error, run: sops decrypt edited.yaml > /dev/null",
    ] {
        ensure!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
    ensure!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    let after: Vec<_> =
        names.iter().map(|name| files.site.read(&format!("{name}.yaml"))).collect::<Result<_>>()?;
    ensure!(before == after, "a file was changed");
    Ok(())
}

#[test]
fn without_sops_or_its_key_the_file_stays_unchanged() -> Result<()> {
    let files = Encrypted::new()?;
    files.write("db.yaml", SECRETS, &DATA_ONLY)?;
    let before = files.site.read("db.yaml")?;
    let run = files.migrate_with("recipient.txt", &["db.yaml"])?;
    ensure!(
        run.code == 1 && run.stderr.contains("error: db.yaml: sops has no key that opens it"),
        "{}",
        run.stderr
    );
    let args = ["migrate", "-R", "recipient.txt", "db.yaml"];
    let run = files.site.run_with(&args, &[("PATH", "/nonexistent")])?;
    ensure!(run.code == 2, "{}", run.stderr);
    ensure!(
        run.stderr
            == "error: db.yaml is encrypted with SOPS, but the program sops is not installed\nhint: install sops (https://getsops.io), or leave the file out\n",
        "{}",
        run.stderr
    );
    ensure!(files.site.read("db.yaml")? == before);
    Ok(())
}
