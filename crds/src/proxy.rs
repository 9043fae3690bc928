//! Which proxy leads to an API server. The rules are those of kubectl.
//!
//! kube's own rules differ: they compare `NO_PROXY` with the address of the proxy and not with that of the API server.

use std::net::IpAddr;

/// A proxy that is not supported. Its address is not repeated, because it can hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proxy's address must begin with http://, https:// or socks5://")]
pub struct UnsupportedProxy;

/// The URL of the proxy that leads to the API server at `host` and `port`, or `None` to connect directly.
///
/// `declared` is `proxy-url` of the kubeconfig, which always applies. Otherwise `HTTPS_PROXY` applies, but never to this
/// machine, and not to what `NO_PROXY` lists. `variable` reads the environment.
///
/// ```
/// use bulla_crds::proxy;
///
/// let variable = |name: &str| match name {
///     "HTTPS_PROXY" => Some("proxy.example.com:3128".to_owned()),
///     "NO_PROXY" => Some(".internal,10.0.0.0/8".to_owned()),
///     _ => None,
/// };
/// let of = |host| proxy::url(None, host, 6443, variable);
/// assert_eq!(of("api.example.com"), Ok(Some("http://proxy.example.com:3128".to_owned())));
/// assert_eq!(of("api.internal"), Ok(None));
/// assert_eq!(of("10.1.2.3"), Ok(None));
/// assert_eq!(of("127.0.0.1"), Ok(None));
/// ```
pub fn url(
    declared: Option<&str>,
    host: &str,
    port: u16,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, UnsupportedProxy> {
    let set = |names: [&str; 2]| {
        let values = names.into_iter().filter_map(&variable);
        values.map(|value| value.trim().to_owned()).find(|value| !value.is_empty())
    };
    let declared = declared.map(str::trim).filter(|url| !url.is_empty());
    let url = match (declared, set(["HTTPS_PROXY", "https_proxy"])) {
        (Some(declared), _) => declared.to_owned(),
        (None, Some(from_environment)) => {
            let exempt = set(["NO_PROXY", "no_proxy"]).unwrap_or_default();
            if is_exempt(&exempt, host, port) {
                return Ok(None);
            }
            from_environment
        }
        (None, None) => return Ok(None),
    };
    let url = match url.split_once("://") {
        None => format!("http://{url}"),
        // The name is resolved by the proxy in both.
        Some(("socks5h", rest)) => format!("socks5://{rest}"),
        Some(("http" | "https" | "socks5", _)) => url,
        Some(_) => return Err(UnsupportedProxy),
    };
    Ok(Some(url))
}

/// Whether a host is on this machine or in a list like `NO_PROXY`: hosts, `.domains`, addresses and networks, each of
/// the first three possibly with a port.
fn is_exempt(list: &str, host: &str, port: u16) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    let entries = list.split(',').map(|entry| entry.trim().to_ascii_lowercase());
    entries.filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some(network) = entry.split_once('/') {
            return address.is_some_and(|address| is_in(address, network));
        }
        let (name, its_port) = with_port(&entry);
        if its_port.is_some_and(|its_port| its_port != port) {
            return false;
        }
        let name = name.trim_matches(['[', ']']);
        match (address, name.parse::<IpAddr>()) {
            (Some(address), exempt) => exempt == Ok(address),
            (None, _) => {
                let domain = name.trim_start_matches('*').trim_start_matches('.');
                // A leading dot limits a domain to the names below it.
                let is_itself = host == domain && name == domain;
                is_itself || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
            }
        }
    })
}

/// An entry without its port. An IPv6 address has a port only behind brackets.
fn with_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            port.parse().map_or((entry, None), |port| (name, Some(port)))
        }
        _ => (entry, None),
    }
}

/// Whether an address is in a network, such as `10.0.0.0` and `8`.
fn is_in(address: IpAddr, (network, bits): (&str, &str)) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let same = |one: u128, other: u128, width: u32| {
        bits <= width && (bits == 0 || (one ^ other) >> (width - bits) == 0)
    };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            same(address.to_bits().into(), network.to_bits().into(), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            same(address.to_bits(), network.to_bits(), 128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_exempt_hosts_is_read_as_kubectl_reads_it() {
        for (list, host, is_direct) in [
            ("", "api.example.com", false),
            ("*", "api.example.com", true),
            ("example.com", "example.com", true),
            ("example.com", "api.example.com", true),
            ("example.com", "notexample.com", false),
            (".example.com", "api.Example.com", true),
            (".example.com", "example.com", false),
            ("*.example.com", "api.example.com", true),
            ("a.org, api.example.com:6443,", "api.example.com", true),
            ("api.example.com:443", "api.example.com", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("0.0.0.0/0", "11.1.2.3", true),
            ("10.0.0.0/33,10.0.0.0/x,/", "10.0.0.1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3:6443", "10.1.2.3", true),
            ("fd00::/8", "[fd00::1]", true),
            ("fd00::/8", "[fe00::1]", false),
            ("fd00::1", "[fd00::1]", true),
            ("[fd00::1]:6443", "[fd00::1]", true),
            ("", "localhost", true),
            ("", "[::1]", true),
        ] {
            assert_eq!(is_exempt(list, host, 6443), is_direct, "{list} {host}");
        }
    }

    #[test]
    fn the_kubeconfigs_proxy_always_applies() {
        let variable = |name: &str| match name {
            "https_proxy" => Some("http://other:1".to_owned()),
            "NO_PROXY" => Some("*".to_owned()),
            _ => None,
        };
        let of = |declared| url(declared, "127.0.0.1", 6443, variable);
        assert_eq!(of(Some("socks5h://p:1080")), Ok(Some("socks5://p:1080".into())));
        assert_eq!(of(Some("p:1")), Ok(Some("http://p:1".into())));
        assert_eq!(of(Some(" ")), Ok(None));
        assert_eq!(of(Some("ftp://user:hunter2@p")), Err(UnsupportedProxy));
        assert_eq!(url(None, "a.org", 443, |_| None), Ok(None));
    }
}
