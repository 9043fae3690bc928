//! New pins written into an existing `bulla.yaml`: comments, order, style and everything else stay.

use anyhow::anyhow;
use bulla_sealing::Recipient;
use jiff::Zoned;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::parse::parse;
use super::{Config, Environment, PinState};
use crate::files::input::Input;
use crate::manifest::{NotEdited, Object, Patch, Step};
use crate::report::failure::Failure;

/// The key that becomes a holder's Active pin in an environment. The old Active pin becomes Retired.
pub(crate) struct Renewal {
    pub(crate) environment: String,
    pub(crate) holder: String,
    pub(crate) recipient: Recipient,
    pub(crate) fetched: Date,
}

impl Renewal {
    /// With a key that was fetched today.
    pub(crate) fn of_today(environment: &str, holder: &str, recipient: Recipient) -> Self {
        let (environment, holder) = (environment.to_owned(), holder.to_owned());
        Self { environment, holder, recipient, fetched: Zoned::now().date() }
    }
}

/// The bytes of the file with the renewals, if they change anything.
pub(crate) fn renewed(config: &Config, renewals: &[Renewal]) -> Result<Option<Vec<u8>>, Failure> {
    let object = config.file.only()?;
    let mut patches = Vec::new();
    for environment in &config.environments {
        let mut pins = Pins { object: &object, environment, count: environment.pins.len() };
        for renewal in renewals.iter().filter(|renewal| renewal.environment == environment.name) {
            patches.extend(pins.renewed(renewal));
        }
    }
    if patches.is_empty() {
        return Ok(None);
    }
    let new = config.file.changed(&patches, &[]).map_err(|NotEdited| {
        let name = config.path.display();
        Failure::unable(anyhow!("{name}: cannot edit the recipients in their current form"))
            .hint("write the recipients without anchors, aliases and multi-line text")
    })?;
    let bytes = new.bytes();
    let name = config.path.display().to_string();
    parse(&config.path, Input { name, bytes: bytes.clone() })
        .map_err(|failure| failure.context("the new recipients are not valid"))?;
    Ok(Some(bytes.to_vec()))
}

/// The list of pins that is edited, and how long it is by now.
struct Pins<'a> {
    object: &'a Object<'a>,
    environment: &'a Environment,
    count: usize,
}

impl Pins<'_> {
    /// What a renewal changes.
    fn renewed(&mut self, renewal: &Renewal) -> Vec<Patch> {
        let mut patches = Vec::new();
        let fetched = renewal.fetched.to_string();
        let mut is_there = false;
        for (index, pin) in self.environment.pins.iter().enumerate() {
            let is_meant = pin.recipient == renewal.recipient;
            is_there |= is_meant;
            match (is_meant, pin.state) {
                (true, PinState::Retired) => {
                    patches.push(self.set(index, "state", PinState::Active.as_str()));
                    patches.push(self.set(index, "fetched", &fetched));
                }
                (false, PinState::Active) if pin.holder == renewal.holder => {
                    patches.push(self.set(index, "state", PinState::Retired.as_str()));
                }
                _ => {}
            }
        }
        if !is_there {
            // One by one, because the fields of a value have no order of their own.
            let recipient = json!({"recipient": renewal.recipient.as_str()});
            patches.push(Patch::append(self.object, &self.list(), recipient));
            patches.push(self.set(self.count, "holder", &renewal.holder));
            patches.push(self.set(self.count, "state", PinState::Active.as_str()));
            patches.push(self.set(self.count, "fetched", &fetched));
            self.count += 1;
        }
        patches
    }

    fn set(&self, index: usize, field: &str, text: &str) -> Patch {
        let [environments, name, recipients] = self.list();
        let path = [environments, name, recipients, Step::Index(index), Step::Key(field)];
        Patch::set(self.object, &path, Value::from(text))
    }

    fn list(&self) -> [Step<'_>; 3] {
        ["environments", &self.environment.name, "recipients"].map(Step::Key)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bulla_sealing::{Identity, KeyType};
    use zeroize::Zeroizing;

    use super::*;

    fn recipient(key_type: KeyType) -> Recipient {
        Identity::generate(key_type).unwrap().recipient()
    }

    fn config(text: &str) -> Config {
        let input = Input { name: "bulla.yaml".into(), bytes: Zeroizing::new(text.into()) };
        parse(Path::new("bulla.yaml"), input).unwrap()
    }

    fn renewal(holder: &str, recipient: &Recipient) -> Renewal {
        let (holder, recipient) = (holder.to_owned(), recipient.clone());
        let (environment, fetched) = ("prod".to_owned(), jiff::civil::date(2026, 11, 21));
        Renewal { environment, holder, recipient, fetched }
    }

    fn renewed(text: &str, renewals: &[Renewal]) -> String {
        String::from_utf8(super::renewed(&config(text), renewals).unwrap().unwrap()).unwrap()
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
                "    - recipient: {new}\n      holder: eu\n      state: Active\n      fetched: \"2026-11-21\"\n"
            );
            let expected = text.replace("\"Active\" # since", "\"Retired\" # since").replace(
                "    # the end",
                &format!("{}    # the end", item.replace('\n', line_break)),
            );
            assert_eq!(renewed(&text, &[renewal("eu", &new)]), expected);
            // An existing pin changes nothing, and a retired one can come back.
            assert!(super::renewed(&config(&text), &[renewal("eu", &old)]).unwrap().is_none());
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
                "      - recipient: {recipient}\n        holder: {holder}\n        state: Active\n        fetched: \"2026-11-21\"\n"
            )
        };
        let all = item(&one, "eu") + &item(&two, "\"123\"");
        let head = "environments:\n  prod:\n    paths: [prod/**] # all\n";
        for (list, list_after) in [
            ("", "    recipients:\n"),
            ("    recipients:", "    recipients:\n"),
            ("    recipients: [] # none\n", "    recipients: # none\n"),
            ("    recipients: null\n", "    recipients:\n"),
        ] {
            let after = renewed(&format!("{head}{list}"), &renewals);
            // A missing newline at the end of the file stays missing.
            let items = all.strip_suffix('\n').filter(|_| list == "    recipients:");
            let items = items.unwrap_or(&all);
            assert_eq!(after, format!("{head}{list_after}{items}"));
        }
    }

    #[test]
    fn flow_style_and_json_stay_what_they_are() {
        let [old, new] = [(); 2].map(|()| recipient(KeyType::X25519));
        let renewals = [renewal("eu", &new)];
        let fields = format!(
            "\"recipient\":\"{new}\", \"holder\":\"eu\", \"state\":\"Active\", \"fetched\":\"2026-11-21\""
        );
        let flow = format!(
            "environments: {{prod: {{paths: [prod/**], recipients: [{{recipient: {old}, holder: eu, state: Active, fetched: 2026-05-01}}]}}}} # ours\n"
        );
        assert_eq!(
            renewed(&flow, &renewals),
            flow.replace("state: Active", "state: Retired")
                .replace("]}} #", &format!(", {{{fields}}}]}}}} #"))
        );
        let json = format!(
            "{{\n  \"environments\": {{\n    \"prod\": {{\n      \"paths\": [\"prod/**\"],\n      \"recipients\": [\n        {{\"recipient\": \"{old}\", \"holder\": \"eu\", \"state\": \"Active\", \"fetched\": \"2026-05-01\"}}\n      ]\n    }}\n  }}\n}}\n"
        );
        assert_eq!(
            renewed(&json, &renewals),
            json.replace("\"Active\"", "\"Retired\"")
                .replace("}\n      ]", &format!("}},\n        {{{fields}}}\n      ]"))
        );
        let none =
            "{\"environments\": {\"prod\": {\"paths\": [\"prod/**\"],\n  \"recipients\": []}}}";
        assert_eq!(renewed(none, &renewals), none.replace("[]", &format!("[{{{fields}}}]")));
    }

    #[test]
    fn several_environments_are_renewed_at_once() {
        let [old, new, other] = [(); 3].map(|()| recipient(KeyType::X25519));
        let pin = |recipient: &Recipient| {
            format!(
                "      - recipient: {recipient}\n        holder: eu\n        state: Active\n        fetched: \"2026-11-21\"\n"
            )
        };
        let text = format!(
            "environments:\n  prod:\n    paths: [prod/**]\n    recipients:\n{}  dev:\n    paths: [dev/**]\n",
            pin(&old)
        );
        let in_dev = Renewal { environment: "dev".into(), ..renewal("eu", &new) };
        let renewals = [in_dev, renewal("eu", &new), renewal("us", &other)];
        let retired = pin(&old).replace("Active", "Retired");
        let us = pin(&other).replace("holder: eu", "holder: us");
        assert_eq!(
            renewed(&text, &renewals),
            text.replace(&pin(&old), &(retired + &pin(&new) + &us))
                + "    recipients:\n"
                + &pin(&new)
        );
    }

    #[test]
    fn an_impossible_edit_is_refused() {
        let [old, new] = [KeyType::X25519, KeyType::Hybrid].map(recipient);
        let alias = format!(
            "environments:\n  prod:\n    paths: [prod/**]\n    recipients: &pins\n    - recipient: {old}\n      holder: eu\n      state: Active\n      fetched: 2026-05-01\n  dev:\n    paths: [dev/**]\n    recipients: *pins\n"
        );
        let other = recipient(KeyType::X25519);
        let (message, hint) =
            super::renewed(&config(&alias), &[renewal("eu", &other)]).unwrap_err().into_parts();
        assert_eq!(message, "bulla.yaml: cannot edit the recipients in their current form");
        assert!(hint.unwrap().starts_with("write the recipients without anchors"));
        // Another holder of another type.
        let block = format!(
            "environments:\n  prod:\n    paths: [prod/**]\n    recipients:\n    - recipient: {old}\n      holder: eu\n      state: Active\n      fetched: 2026-05-01\n"
        );
        let (message, hint) =
            super::renewed(&config(&block), &[renewal("us", &new)]).unwrap_err().into_parts();
        assert!(message.starts_with("the new recipients are not valid: bulla.yaml: document 1, line 4: environments.prod.recipients: "), "{message}");
        assert!(hint.unwrap().starts_with("age allows one type per file"));
        // The type of all of them changes at once.
        assert!(renewed(&block, &[renewal("eu", &new)]).contains("state: Retired"));
    }
}
