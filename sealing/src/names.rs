//! Which names Kubernetes accepts for namespaces, objects and data keys.

/// Whether `text` is a DNS label (RFC 1123), as a namespace's name must be.
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_label(text)
}

/// Whether `text` is a DNS subdomain as Kubernetes defines it for the names of objects.
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Whether `text` may be a data key of a Secret.
pub fn is_data_key(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text != "."
        && !text.starts_with("..")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_the_limits_of_kubernetes() {
        assert!(is_dns_label(&"a".repeat(63)) && !is_dns_label(&"a".repeat(64)));
        assert!(is_dns_subdomain(&"a".repeat(253)) && !is_dns_subdomain(&"a".repeat(254)));
        assert!(is_data_key(&"A".repeat(253)) && !is_data_key(&"A".repeat(254)));
        assert!(is_data_key("k") && !is_data_key(""));
        assert!(is_data_key(".dockerconfigjson") && !is_data_key("..data") && !is_data_key("."));
    }

    #[test]
    fn a_dns_label_has_letters_and_digits_and_hyphens_only_between_them() {
        for text in ["a", "0", "eu-1", "1-a", "a--b"] {
            assert!(is_dns_label(text), "{text}");
        }
        for text in ["", "-", "-a", "a-", "A", "a.b", "a_b", "a b", "ä"] {
            assert!(!is_dns_label(text), "{text}");
        }
    }
}
