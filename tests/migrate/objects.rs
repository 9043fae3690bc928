//! Everything in an object except its values.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::site::{DB, Run, Site, keys, masked, one, theirs};

/// A folder with the first key in `key.pem`.
fn site() -> Result<Site> {
    let site = Site::new()?;
    site.write("key.pem", &keys()?[0])?;
    Ok(site)
}

fn migrate(site: &Site, object: &str) -> Result<Run> {
    site.write("db.yaml", object)?;
    site.migrate(&["--from-key", "key.pem", "db.yaml"])
}

const BEFORE: &str = r##"# the shop's database
%YAML 1.2
---
# it is old
apiVersion: "bitnami.com/v1alpha1" # theirs
kind: SealedSecret
metadata:
  creationTimestamp: null
  name: db # a name
  namespace: shop
  annotations:
    # anyone in the namespace
    sealedsecrets.bitnami.com/namespace-wide: "true"
    argocd.argoproj.io/sync-wave: "1"
spec:
  # the values
  encryptedData: # two
    # changed in May
    password: PASSWORD # rotated by hand
    'user': "USER"
    # no more
  template:
    metadata:
      creationTimestamp: null
      name: db
      namespace: shop
      labels:
        team: storage # who is called
        app.kubernetes.io/managed-by: Helm
      annotations:
        sealedsecrets.bitnami.com/namespace-wide: "true"
    type: Opaque # as ever
    # one URL
    data:
      url: |
        # config
        url: postgres://{{ .user }}:{{ index . "password" }}@db/app
        auth: {{ .password | b64enc }}
      plain: 'text'
status: {}
---
kind: ConfigMap # another
apiVersion: v1
metadata: {name: x}
"##;

const AFTER: &str = r##"# the shop's database
%YAML 1.2
---
# it is old
apiVersion: "bulla.dev/v1alpha1" # theirs
kind: SealedSecret
metadata:
  creationTimestamp: null
  name: db # a name
  namespace: shop
  annotations:
    # anyone in the namespace
    argocd.argoproj.io/sync-wave: "1"
spec:
  # the values
  sealedData: # two
    # changed in May
    password: ... # rotated by hand
    'user': "..."
    # no more
  template:
    metadata:
      labels:
        team: storage # who is called
    type: Opaque # as ever
    # one URL
    data:
      url: |
        # config
        url: postgres://{{ user }}:{{ password }}@db/app
        auth: {{ password | b64encode }}
      plain: 'text'
---
kind: ConfigMap # another
apiVersion: v1
metadata: {name: x}
"##;

#[test]
fn comments_order_and_quotes_stay() -> Result<()> {
    let site = site()?;
    let password = one("shop", "hunter2")?;
    let before = BEFORE.replace("PASSWORD", &password).replace("USER", &one("shop", "app")?);
    for line_break in ["\n", "\r\n"] {
        let run = migrate(&site, &before.replace('\n', line_break))?;
        ensure!(run.code == 0, "{}", run.stderr);
        ensure!(
            run.stderr
                == "note: db.yaml: document 1, line 5: shop/db: label app.kubernetes.io/managed-by is left out: tools use it to track their own objects\n1 file, 1 object from other tools: 1 migrated with 2 values; 1 object of other kinds skipped\n",
            "{}",
            run.stderr
        );
        let text = site.read("db.yaml")?;
        ensure!(masked(&text) == AFTER.replace('\n', line_break), "{text}");
        let sealed = text.split("---").nth(1).context("no document")?;
        site.write("one.yaml", sealed)?;
        let values = site.values("one.yaml")?;
        ensure!(
            values["url"] == b"# config\nurl: postgres://app:hunter2@db/app\nauth: aHVudGVyMg==\n"
        );
        ensure!(values["plain"] == b"text" && values.len() == 4);
        // A second run has nothing to do, and changes nothing.
        let run = site.migrate(&["--from-key", "key.pem", "db.yaml"])?;
        ensure!(run.code == 0 && run.stderr.starts_with("nothing to migrate"), "{}", run.stderr);
        ensure!(site.read("db.yaml")? == text);
    }
    Ok(())
}

#[test]
fn a_comment_without_a_place_is_reported() -> Result<()> {
    let site = site()?;
    let metadata = format!(
        "{DB}  annotations: # all of them\n    # anywhere\n    sealedsecrets.bitnami.com/cluster-wide: \"true\" # why\n"
    );
    let run = migrate(&site, &theirs(&metadata, &[("a", &one("", "hunter2")?)], ""))?;
    ensure!(run.code == 0, "{}", run.stderr);
    let told = "a comment is dropped, because the field that it belonged to is gone";
    for line in [6, 7, 8] {
        let note = format!("note: db.yaml: document 1, line {line}: prod/db: {told}");
        ensure!(run.stderr.contains(&note), "line {line}: {}", run.stderr);
    }
    Ok(())
}

#[test]
fn json_and_lists_are_changed_in_place() -> Result<()> {
    let site = site()?;
    let value = one("prod/db", "hunter2")?;
    let json = format!(
        r#"{{
  "kind": "SealedSecret",
  "apiVersion": "bitnami.com/v1alpha1",
  "metadata": {{
    "name": "db",
    "namespace": "prod",
    "creationTimestamp": null
  }},
  "spec": {{
    "template": {{
      "metadata": {{
        "name": "db",
        "namespace": "prod",
        "creationTimestamp": null
      }},
      "type": "Opaque",
      "data": null
    }},
    "encryptedData": {{
      "a": "{value}"
    }}
  }}
}}
"#
    );
    let run = migrate(&site, &json)?;
    ensure!(run.code == 0, "{}", run.stderr);
    let text = site.read("db.yaml")?;
    let object: Value = serde_json::from_str(&text)?;
    let sealed = object["spec"]["sealedData"]["a"].clone();
    ensure!(
        object["spec"] == json!({"template": {"type": "Opaque"}, "sealedData": {"a": sealed}}),
        "{text}"
    );
    ensure!(site.values("db.yaml")?["a"] == b"hunter2");

    let item = |name: &str| -> Result<String> {
        let value = one(&format!("prod/{name}"), name)?;
        Ok(format!(
            "- apiVersion: bitnami.com/v1alpha1\n  kind: SealedSecret\n  metadata:\n    name: {name}\n    namespace: prod\n    uid: 1234\n  spec:\n    encryptedData:\n      a: {value}\n    template: {{metadata: {{name: {name}}}}}\n  status:\n    observedGeneration: 1\n    conditions:\n    - {{type: Synced, status: \"True\"}}\n"
        ))
    };
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n{}{}metadata: {{}}\n",
        item("one")?,
        item("two")?
    );
    let run = migrate(&site, &list)?;
    ensure!(run.code == 0, "{}", run.stderr);
    let expected = ["one", "two"].map(|name| {
        format!("- apiVersion: bulla.dev/v1alpha1\n  kind: SealedSecret\n  metadata:\n    name: {name}\n    namespace: prod\n    uid: 1234\n  spec:\n    sealedData:\n      a: ...\n")
    });
    let text = site.read("db.yaml")?;
    ensure!(
        masked(&text)
            == format!("apiVersion: v1\nkind: List\nitems:\n{}metadata: {{}}\n", expected.concat()),
        "{text}"
    );
    let opened = site.done(&["unseal", "-i", "identity.txt", "db.yaml"])?;
    ensure!(opened.contains("b25l") && opened.contains("dHdv"), "{opened}");
    Ok(())
}

#[test]
fn templates_types_and_policies_are_carried_over() -> Result<()> {
    let site = site()?;
    let a = one("prod/db", "hunter2")?;
    let annotations = |names: &[&str]| {
        let lines: String = names
            .iter()
            .map(|name| format!("        sealedsecrets.bitnami.com/{name}: \"true\"\n"))
            .collect();
        format!("    metadata:\n      annotations:\n{lines}")
    };
    for (template, expected, note) in [
        ("    type: example.com/own\n    immutable: true\n".into(), json!({"template": {"type": "example.com/own", "immutable": true}}), ""),
        ("    metadata:\n      labels: {a: b}\n      annotations: {c: d}\n      finalizers: []\n".into(), json!({"template": {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}}), ""),
        ("    metadata: {name: other}\n".into(), json!({}), "the name in spec.template.metadata is dropped"),
        (annotations(&["skip-set-owner-references"]), json!({"target": {"policy": "Orphan"}}), "now policy Orphan"),
        (annotations(&["managed"]), json!({}), "bulla.dev/target: adopt"),
        (annotations(&["patch"]) + "    type: Opaque\n", json!({"target": {"policy": "Merge"}}), "now policy Merge"),
        (annotations(&["patch", "managed"]), json!({"target": {"policy": "Merge"}}), "managed together with patch"),
        (annotations(&["patch"]).replace("true", "false"), json!({}), ""),
        ("    data:\n      x: '<{{- .a -}} >'\n".into(), json!({"template": {"data": {"x": "<{{ a }}>"}}}), ""),
        ("    type: kubernetes.io/tls\n    data: {tls.crt: '{{ .a }}', tls.key: ''}\n".into(), json!({"template": {"type": "kubernetes.io/tls", "data": {"tls.crt": "{{ a }}", "tls.key": ""}}}), ""),
    ] {
        let run = migrate(&site, &theirs(DB, &[("a", &a)], &format!("  template:\n{template}")))?;
        ensure!(run.code == 0, "{template}: {}", run.stderr);
        let text = site.read("db.yaml")?;
        let mut object: Value = yaml_serde::from_str(&text)?;
        let spec = object["spec"].as_object_mut().context("no spec")?;
        spec.remove("sealedData").context("no values")?;
        ensure!(Value::Object(spec.clone()) == expected, "{template}: {text}");
        ensure!(run.stderr.contains(note) && run.stderr.contains("note: ") != note.is_empty(), "{template}: {}", run.stderr);
        ensure!(site.values("db.yaml")?["a"] == b"hunter2");
        site.done(&["lint", "db.yaml"])?;
    }
    Ok(())
}

#[test]
fn a_field_without_an_equivalent_is_refused_with_its_place() -> Result<()> {
    let site = site()?;
    let (a, docker) = (one("prod/db", "hunter2")?, one("prod/db", "no JSON")?);
    let values = [("a", a.as_str())];
    let template = |text: &str| theirs(DB, &values, &format!("  template:\n{text}"));
    let object = theirs(DB, &values, "");
    for (object, line, told) in [
        (object.replace("v1alpha1", "v1beta1"), 1, "only bitnami.com/v1alpha1 is supported"),
        (
            object.replace("  name: db\n", "  generateName: db\n"),
            4,
            "a sealed value is for one name",
        ),
        (theirs(DB, &values, "  data: QUFB\n"), 9, "spec.data cannot be migrated"),
        (theirs(DB, &values, "  more: {}\n"), 9, "spec.more has no equivalent"),
        (theirs(DB, &[], ""), 1, "there is no data to seal"),
        (theirs(DB, &[("a", "1")], ""), 8, "not text, so not a sealed value"),
        (theirs(DB, &[("\"a b\"", &a)], ""), 8, "not a valid data key"),
        (template("    more: 1\n"), 10, "spec.template.more has no equivalent"),
        (template("    type: 1\n"), 10, "the type is not text"),
        (template("    immutable: \"true\"\n"), 10, "must be true or false"),
        (template("    type: kubernetes.io/service-account-token\n"), 1, "are refused"),
        (template("    type: kubernetes.io/tls\n"), 1, "needs tls.crt"),
        (
            template("    metadata: {finalizers: [x]}\n"),
            10,
            "spec.template.metadata.finalizers has no equivalent",
        ),
        (
            template("    metadata: {labels: {a: 1}}\n"),
            10,
            "spec.template.metadata.labels.a is not text",
        ),
        (
            template("    metadata: {annotations: {note: is hunter2}}\n"),
            8,
            "contains the plaintext of key a",
        ),
        (
            template(
                "    metadata: {labels: {a: b}, annotations: {sealedsecrets.bitnami.com/patch: \"true\"}}\n",
            ),
            9,
            "policy Merge adds only data",
        ),
        (
            template(
                "    data:\n      y: text\n      x: |\n        one\n         {{ .a | upper }}\n",
            ),
            12,
            "the template of x, line 2, column 2: only {{ .key }}",
        ),
        (template("    data: {x: '{{ .b }}'}\n"), 10, "there is no sealed value with the key b"),
        (template("    data: {x: '{{ if .a }}y{{ end }}'}\n"), 10, "have an equivalent"),
        (template("    data: {a: '{{ .a }}'}\n"), 10, "the template of a replaces a sealed value"),
        (template("    data: {x: null}\n"), 10, "null keeps x out of the Secret"),
        (template("    data: {x: 1}\n"), 10, "the template of x is not text"),
        (
            template(
                "    data: {.dockerconfigjson: '{\"x\": \"{{ .a }}\"}'}\n    type: kubernetes.io/dockerconfigjson\n",
            ),
            1,
            "a value in JSON needs a filter",
        ),
        (
            theirs(
                DB,
                &[(".dockerconfigjson", &docker)],
                "  template: {type: kubernetes.io/dockerconfigjson}\n",
            ),
            8,
            "not valid for type kubernetes.io/dockerconfigjson",
        ),
    ] {
        let run = migrate(&site, &object)?;
        let place = format!("error: db.yaml: document 1, line {line}");
        ensure!(run.code == 1, "{told}: exit code {}: {}", run.code, run.stderr);
        ensure!(
            run.stderr.contains(told) && run.stderr.contains(&place),
            "{told}, line {line}: {}",
            run.stderr
        );
        ensure!(site.read("db.yaml")? == object, "{told}: the file was changed");
        ensure!(
            !run.stderr.contains("hunter2") && !run.stderr.contains("no JSON"),
            "{}",
            run.stderr
        );
    }
    Ok(())
}

#[test]
fn the_result_of_one_file_can_be_written_elsewhere() -> Result<()> {
    let site = site()?;
    let object = theirs(DB, &[("a", &one("prod/db", "hunter2")?)], "");
    site.write("db.yaml", &object)?;
    let base = ["--from-key", "key.pem", "db.yaml", "-o"];
    let with = |args: &[&str]| site.migrate(&[&base[..], args].concat());
    let run = with(&["new.yaml"])?;
    ensure!(run.code == 0 && site.values("new.yaml")?["a"] == b"hunter2", "{}", run.stderr);
    let run = with(&["new.yaml"])?;
    ensure!(
        run.code == 2 && run.stderr.contains("to overwrite it, pass --force"),
        "{}",
        run.stderr
    );
    ensure!(with(&["new.yaml", "--force"])?.code == 0);
    let run = with(&["-"])?;
    ensure!(
        run.code == 0 && run.stdout.starts_with("apiVersion: bulla.dev/v1alpha1\n"),
        "{}",
        run.stdout
    );
    ensure!(run.stderr.contains("db.yaml: 1 object migrated"), "{}", run.stderr);
    ensure!(site.read("db.yaml")? == object);
    let run = with(&["x.yaml", "new.yaml"])?;
    ensure!(
        run.code == 2 && run.stderr.contains("-o takes exactly one input file, not a folder"),
        "{}",
        run.stderr
    );
    Ok(())
}
