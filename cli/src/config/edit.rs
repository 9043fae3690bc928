//! New pins written into `bulla.yaml` as it stands: comments, order and everything else stay. What was written is
//! read again and compared before anybody gets to see it.

use std::ops::Range;

use anyhow::anyhow;
use bulla_sealing::Recipient;
use jiff::civil::Date;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Config, Environment, PinState};
use crate::failure::Failure;
use crate::input::Input;
use crate::manifest::{self, Step};

/// The key that a holder is sealed to from now on. What he was sealed to before is Retired.
pub(crate) struct Renewal {
    pub(crate) holder: String,
    pub(crate) recipient: Recipient,
    pub(crate) fetched: Date,
}

/// A part of the text, and what it becomes.
type Edit = (Range<usize>, String);

impl Config {
    /// The bytes of the file with the renewals in an environment of it, if they change anything.
    pub(crate) fn renewed(
        &self,
        environment: &str,
        renewals: &[Renewal],
    ) -> Result<Option<Vec<u8>>, Failure> {
        let environment = self.environment(environment)?;
        let mut draft = Draft { config: self, environment, edits: Vec::new(), added: Vec::new() };
        let mut expected = self.document.value().clone();
        for renewal in renewals {
            draft.renew(renewal, &mut expected).ok_or_else(|| self.not_in_this_form())?;
        }
        if draft.edits.is_empty() && draft.added.is_empty() {
            return Ok(None);
        }
        draft.add().ok_or_else(|| self.not_in_this_form())?;
        let bytes = draft.apply();
        let name = self.path.display().to_string();
        let input = || Input { name: name.clone(), bytes: Zeroizing::new(bytes.clone()) };
        match manifest::read_document(input()) {
            Ok(document) if *document.value() == expected => {}
            _ => return Err(self.not_in_this_form()),
        }
        let again = Self::parse(&self.path, input());
        again.map_err(|failure| failure.context("the new recipients do not fit"))?;
        Ok(Some(bytes))
    }

    fn not_in_this_form(&self) -> Failure {
        let name = self.path.display();
        Failure::unable(anyhow!("{name}: recipients cannot be changed in the form that they are in"))
            .hint("write each recipient as a list item of its own lines: - recipient: …, holder: …, state: …, fetched: …")
    }

    fn text(&self) -> &str {
        self.document.text()
    }
}

struct Draft<'a> {
    config: &'a Config,
    environment: &'a Environment,
    edits: Vec<Edit>,
    added: Vec<&'a Renewal>,
}

impl<'a> Draft<'a> {
    /// Notes what one renewal changes, in the text and in what it means; `None` where the text is in no form for it.
    fn renew(&mut self, renewal: &'a Renewal, expected: &mut Value) -> Option<()> {
        let environment = expected.get_mut("environments")?.get_mut(&self.environment.name)?;
        let pins = &self.environment.pins;
        let mut edits = Vec::new();
        let mut change = |index: usize, field: &'static str, old: &str, new: &str| {
            environment["recipients"][index][field] = Value::from(new);
            edits.push((self.value(index, field, old)?, new.to_owned()));
            Some(())
        };
        let mut is_there = false;
        for (index, pin) in pins.iter().enumerate() {
            let is_meant = pin.recipient == renewal.recipient;
            is_there |= is_meant;
            let state = match (is_meant, pin.state) {
                (true, PinState::Retired) => PinState::Active,
                (false, PinState::Active) if pin.holder == renewal.holder => PinState::Retired,
                _ => continue,
            };
            change(index, "state", pin.state.as_str(), state.as_str())?;
            if is_meant {
                let [old, new] = [pin.fetched, renewal.fetched].map(|day| day.to_string());
                change(index, "fetched", &old, &new)?;
            }
        }
        self.edits.extend(edits);
        if !is_there {
            let pin = json!({
                "recipient": renewal.recipient.as_str(),
                "holder": renewal.holder,
                "state": PinState::Active.as_str(),
                "fetched": renewal.fetched.to_string(),
            });
            match &mut environment["recipients"] {
                Value::Array(pins) => pins.push(pin),
                other => *other = Value::from(vec![pin]),
            }
            self.added.push(renewal);
        }
        Some(())
    }

    /// Where a field of a pin has its value.
    fn value(&self, index: usize, field: &str, value: &str) -> Option<Range<usize>> {
        let from = self.offset(&[Step::Key("recipients"), Step::Index(index), Step::Key(field)])?;
        // Not in the key itself, which may be the same word.
        let from = from + field.len().min(self.config.text().len() - from);
        let start = from + self.config.text()[from..].find(value)?;
        Some(start..start + value.len())
    }

    fn offset(&self, within: &[Step<'_>]) -> Option<usize> {
        let path = [Step::Key("environments"), Step::Key(&self.environment.name)];
        self.config.document.offset(&[&path, within].concat())
    }

    /// Notes the recipients that were not there before: as items behind the last one.
    fn add(&mut self) -> Option<()> {
        if self.added.is_empty() {
            return Some(());
        }
        let text = self.config.text();
        let (at, before, indent) = match self.environment.pins.len().checked_sub(1) {
            Some(last) => {
                let pin = &self.environment.pins[last];
                let fetched = pin.fetched.to_string();
                let fields = [
                    ("recipient", pin.recipient.as_str()),
                    ("holder", &pin.holder),
                    ("state", pin.state.as_str()),
                    ("fetched", &fetched),
                ];
                let values: Option<Vec<_>> = fields
                    .into_iter()
                    .map(|(field, value)| self.value(last, field, value))
                    .collect();
                let keys: Option<Vec<_>> = fields
                    .into_iter()
                    .map(|(field, _)| {
                        self.offset(&[Step::Key("recipients"), Step::Index(last), Step::Key(field)])
                    })
                    .collect();
                let first = keys?.into_iter().min()?;
                let end = values?.into_iter().map(|value| value.end).max()?;
                let indent = text[line_start(text, first)..first].strip_suffix("- ")?;
                (line_end(text, end), String::new(), indent.to_owned())
            }
            None => self.empty_list()?,
        };
        if !indent.chars().all(|character| character == ' ') {
            return None;
        }
        let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let mut lines = before;
        for Renewal { holder, recipient, fetched } in &self.added {
            let holder = plain(holder);
            for (dash, field) in [
                ("- ", format!("recipient: {recipient}")),
                ("  ", format!("holder: {holder}")),
                ("  ", format!("state: {}", PinState::Active.as_str())),
                ("  ", format!("fetched: {fetched}")),
            ] {
                lines.extend([indent.as_str(), dash, &field, line_break]);
            }
        }
        if !text[..at].ends_with('\n') {
            lines.insert_str(0, line_break);
        }
        self.edits.push((at..at, lines));
        Some(())
    }

    /// Where items of a list go that is empty or not there: offset, what goes before them, and their indentation.
    fn empty_list(&mut self) -> Option<(usize, String, String)> {
        let text = self.config.text();
        let environments = self.config.document.value().get("environments")?;
        let map = environments.get(&self.environment.name)?;
        let key_indent = |offset: usize| Some(text[line_start(text, offset)..offset].to_owned());
        if map.get("recipients").is_some() {
            let key = self.offset(&[Step::Key("recipients")])?;
            let end = line_end(text, key);
            let after = key + text[key..end].find(':')? + 1;
            let value = text[after..end].split('#').next()?.trim();
            if !["", "[]", "null", "~"].contains(&value) {
                return None;
            }
            if !value.is_empty() {
                let start = after + text[after..end].find(value)?;
                self.edits.push((start..start + value.len(), String::new()));
            }
            return Some((end, String::new(), key_indent(key)?));
        }
        let paths = map.get("paths")?.as_array()?;
        let key = self.offset(&[Step::Key("paths")])?;
        let last = self.offset(&[Step::Key("paths"), Step::Index(paths.len().checked_sub(1)?)])?;
        let indent = key_indent(key)?;
        let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
        Some((line_end(text, last), format!("{indent}recipients:{line_break}"), indent))
    }

    /// The whole file.
    fn apply(mut self) -> Vec<u8> {
        let mark = self.config.bytes.len() - self.config.text().len();
        self.edits.sort_by_key(|(range, _)| range.start);
        let mut bytes = self.config.bytes.clone();
        for (range, new) in self.edits.into_iter().rev() {
            bytes.splice(mark + range.start..mark + range.end, new.into_bytes());
        }
        bytes
    }
}

/// As it is written where YAML wants text.
fn plain(text: &str) -> String {
    let yaml = manifest::to_yaml([&Value::from(text)]);
    String::from_utf8_lossy(&yaml).trim().to_owned()
}

fn line_start(text: &str, offset: usize) -> usize {
    text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Behind the end of the line.
fn line_end(text: &str, offset: usize) -> usize {
    text[offset..].find('\n').map_or(text.len(), |newline| offset + newline + 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bulla_sealing::{Identity, KeyType};

    use super::*;

    fn recipient(key_type: KeyType) -> Recipient {
        Identity::generate(key_type).unwrap().recipient()
    }

    fn config(text: &str) -> Config {
        let input = Input { name: "bulla.yaml".into(), bytes: Zeroizing::new(text.into()) };
        Config::parse(Path::new("bulla.yaml"), input).unwrap()
    }

    fn renewal(holder: &str, recipient: &Recipient) -> Renewal {
        let (holder, recipient) = (holder.to_owned(), recipient.clone());
        Renewal { holder, recipient, fetched: jiff::civil::date(2026, 11, 21) }
    }

    fn renewed(text: &str, renewals: &[Renewal]) -> String {
        String::from_utf8(config(text).renewed("prod", renewals).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn a_new_key_takes_the_place_of_the_old_one_and_all_else_stays() {
        let [old, new, other] = [(); 3].map(|()| recipient(KeyType::X25519));
        let text = format!(
            "# ours\nenvironments:\n  prod: # the live one\n    paths:\n    - prod/**   # all\n    recipients:\n    # of eu\n    - recipient: {old}\n      holder: eu # in Frankfurt\n      state: \"Active\" # since spring\n      fetched: 2026-05-01\n    # of the safe\n    - fetched: 2026-05-01\n      holder: recovery\n      recipient: {other} # printed\n      state: Active\n    # the end\n  dev:\n    paths: [dev/**]\n"
        );
        for text in [text.clone(), text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
            let line_break = if text.contains('\r') { "\r\n" } else { "\n" };
            let item = format!(
                "    - recipient: {new}\n      holder: eu\n      state: Active\n      fetched: 2026-11-21\n"
            );
            let expected = text.replace("\"Active\" # since", "\"Retired\" # since").replace(
                "    # the end",
                &format!("{}    # the end", item.replace('\n', line_break)),
            );
            assert_eq!(renewed(&text, &[renewal("eu", &new)]), expected);
            // What is there already changes nothing, and what was retired can come back.
            assert!(config(&text).renewed("prod", &[renewal("eu", &old)]).unwrap().is_none());
            let back = renewed(&expected, &[renewal("eu", &old)]);
            let pins = &config(&back).environments[1].pins;
            let states: Vec<_> = pins.iter().map(|pin| pin.state.as_str()).collect();
            assert_eq!(states, ["Active", "Active", "Retired"]);
            assert_eq!(pins[0].fetched, jiff::civil::date(2026, 11, 21));
        }
    }

    #[test]
    fn first_keys_are_pinned_where_none_are() {
        let [one, two] = [(); 2].map(|()| recipient(KeyType::Hybrid));
        let renewals = [renewal("eu", &one), renewal("123", &two)];
        let item = |recipient: &Recipient, holder: &str| {
            format!(
                "    - recipient: {recipient}\n      holder: {holder}\n      state: Active\n      fetched: 2026-11-21\n"
            )
        };
        let items = item(&one, "eu") + &item(&two, "\"123\"");
        let head = "environments:\n  prod:\n    paths: [prod/**] # all\n";
        for (list, list_after) in [
            ("", "    recipients:\n"),
            ("    recipients:", "    recipients:\n"),
            ("    recipients: [] # none\n", "    recipients:  # none\n"),
            ("    recipients: null\n", "    recipients: \n"),
        ] {
            let after = renewed(&format!("{head}{list}"), &renewals);
            assert_eq!(after, format!("{head}{list_after}{items}"));
        }
    }

    #[test]
    fn what_cannot_be_edited_or_does_not_fit_is_refused() {
        let [old, new] = [KeyType::X25519, KeyType::Hybrid].map(recipient);
        let flow = format!(
            "environments: {{prod: {{paths: [prod/**], recipients: [{{recipient: {old}, holder: eu, state: Active, fetched: 2026-05-01}}]}}}}"
        );
        let other = recipient(KeyType::X25519);
        let (message, hint) =
            config(&flow).renewed("prod", &[renewal("eu", &other)]).unwrap_err().into_parts();
        assert_eq!(
            message,
            "bulla.yaml: recipients cannot be changed in the form that they are in"
        );
        assert!(hint.unwrap().starts_with("write each recipient as a list item"));
        // Another holder of another type.
        let block = format!(
            "environments:\n  prod:\n    paths: [prod/**]\n    recipients:\n    - recipient: {old}\n      holder: eu\n      state: Active\n      fetched: 2026-05-01\n"
        );
        let (message, hint) =
            config(&block).renewed("prod", &[renewal("us", &new)]).unwrap_err().into_parts();
        assert!(message.starts_with("the new recipients do not fit: bulla.yaml: document 1, line 4: environments.prod.recipients: "), "{message}");
        assert!(hint.unwrap().starts_with("age forbids both types"));
        // The type of all of them changes at once.
        assert!(renewed(&block, &[renewal("eu", &new)]).contains("state: Retired"));
    }
}
