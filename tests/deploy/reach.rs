//! API servers behind proxies, and API servers that are too old.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use bulla_tests::{ControlPlane, Controller, Fault, Folder, Proxy, Rule, Shell};
use serde_json::{Value, json};

/// A control plane with everything installed.
fn plane() -> Result<&'static ControlPlane> {
    static INSTALLED: OnceLock<Result<()>> = OnceLock::new();
    let plane = ControlPlane::shared()?;
    let installed = INSTALLED.get_or_init(|| Controller::install(plane));
    installed.as_ref().map_err(|error| anyhow!("{error:#}"))?;
    Ok(plane)
}

/// A way out of a company's network: it finds each host at the API server's address.
struct Gateway {
    address: String,
    passed: Arc<AtomicUsize>,
}

impl Gateway {
    /// Starts one that speaks this protocol.
    fn start(plane: &ControlPlane, greet: fn(&TcpStream) -> io::Result<()>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?.to_string();
        let server = plane.url().trim_start_matches("https://").to_owned();
        let passed = Arc::new(AtomicUsize::new(0));
        let counter = passed.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, counter) = (server.clone(), counter.clone());
                thread::spawn(move || -> io::Result<()> {
                    greet(&client)?;
                    counter.fetch_add(1, Ordering::Relaxed);
                    let server = TcpStream::connect(server)?;
                    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
                    thread::spawn(move || io::copy(&mut from, &mut to));
                    let (mut from, mut to) = (server, client);
                    io::copy(&mut from, &mut to).map(drop)
                });
            }
        });
        Ok(Self { address, passed })
    }

    /// How many connections went through it since the last call.
    fn passed(&self) -> usize {
        self.passed.swap(0, Ordering::Relaxed)
    }
}

/// RFC 9110, section 9.3.6, for a user with a password.
fn connect(client: &TcpStream) -> io::Result<()> {
    let mut head = String::new();
    let mut lines = BufReader::new(client.try_clone()?);
    while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head)? > 0 {}
    // The base64 of the user and the password, `us:p@`.
    let is_known = head.contains("Basic dXM6cEA=");
    let is_meant = head.starts_with("CONNECT ") && is_known;
    let mut client = client;
    if !is_meant {
        return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")
}

/// RFC 1928, without authentication.
fn socks(mut client: &TcpStream) -> io::Result<()> {
    let read = |mut client: &TcpStream, length: usize| {
        let mut bytes = vec![0; length];
        client.read_exact(&mut bytes).map(|()| bytes)
    };
    let methods = read(client, 2)?[1];
    read(client, methods.into())?;
    client.write_all(&[5, 0])?;
    let address = match read(client, 4)?[3] {
        1 => 4,
        3 => read(client, 1)?[0].into(),
        _ => 16,
    };
    read(client, address + 2)?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
}

/// A kubeconfig with another address of the API server, which only the gateways can resolve, and with a proxy.
fn kubeconfig(folder: &Folder, kubeconfig: &PathBuf, proxy: Option<&str>) -> Result<PathBuf> {
    let mut config: Value = serde_json::from_slice(&fs::read(kubeconfig)?)?;
    let cluster = &mut config["clusters"][0]["cluster"];
    let server = cluster["server"].as_str().context("no server")?.to_owned();
    cluster["server"] = json!(server.replace("127.0.0.1", "kubernetes.default.svc"));
    if let Some(proxy) = proxy {
        cluster["proxy-url"] = json!(proxy);
    }
    let path = folder.path().join("proxied.kubeconfig");
    fs::write(&path, config.to_string())?;
    Ok(path)
}

#[test]
fn the_command_line_and_the_controller_reach_a_cluster_behind_a_proxy() -> Result<()> {
    let plane = plane()?;
    let folder = Folder::new("bulla-reach-")?;
    let (http, socks) = (Gateway::start(plane, connect)?, Gateway::start(plane, socks)?);
    let through_http = format!("http://us:p%40@{}", http.address);
    let through_socks = format!("socks5://{}", socks.address);
    let shell = Shell::new(&folder, plane.admin().kubeconfig())?;
    let admin = plane.admin().kubeconfig().to_owned();
    let list = |proxy: Option<&str>, variables: &[(&str, &str)]| {
        let config = kubeconfig(&folder, &admin, proxy)?;
        let mut command = shell.command("bulla keys list --format json");
        let variables = variables.iter().copied();
        let output = command.env("KUBECONFIG", config).envs(variables).output()?;
        anyhow::Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let gateways = || (http.passed() > 0, socks.passed() > 0);

    for (proxy, variables, expected) in [
        (Some(&*through_http), &[][..], (true, false)),
        (Some(&*through_socks), &[], (false, true)),
        // The kubeconfig's proxy always applies.
        (
            Some(&*through_socks),
            &[("HTTPS_PROXY", &*through_http), ("NO_PROXY", "*")],
            (false, true),
        ),
        (None, &[("HTTPS_PROXY", &*through_http)], (true, false)),
        (None, &[("https_proxy", &*through_socks), ("NO_PROXY", "127.0.0.0/8")], (false, true)),
    ] {
        let (succeeds, said) = list(proxy, variables)?;
        ensure!(succeeds, "{proxy:?} {variables:?}: {said}");
        assert_eq!(gateways(), expected, "{proxy:?} {variables:?}");
    }
    // Without the proxy, the name of the server is not known here.
    for variables in [&[][..], &[("HTTPS_PROXY", &*through_http), ("NO_PROXY", "example.com,.svc")]]
    {
        let (succeeds, said) = list(None, variables)?;
        ensure!(!succeeds && said.contains("cannot reach kubernetes.default.svc"), "{said}");
        assert_eq!(gateways(), (false, false));
    }
    // A password in an unusable address is not repeated.
    let (succeeds, said) = list(Some("ftp://us:hunter2@proxy"), &[])?;
    ensure!(!succeeds && said.contains("the proxy's address must begin with"), "{said}");
    ensure!(!said.contains("hunter2"), "{said}");

    let account = plane.service_account(Controller::NAMESPACE, "bulla-controller")?;
    let config = kubeconfig(&folder, &account.kubeconfig().to_owned(), None)?;
    for (url, expected) in [(&through_http, (true, false)), (&through_socks, (false, true))] {
        let mut command = Controller::command(plane)?;
        command.env("KUBECONFIG", &config).env("HTTPS_PROXY", url);
        Controller::start(command)?.wait_until_ready()?;
        assert_eq!(gateways(), expected);
    }
    Ok(())
}

#[test]
fn the_controller_stops_at_an_api_server_that_is_too_old() -> Result<()> {
    let plane = plane()?;
    let proxy = Proxy::start(plane)?;
    let old = proxy.inject(Rule::new("GET /version", Fault::Version(31)));
    let mut controller = Controller::start(Controller::command_through(plane, &proxy)?)?;
    let ended = controller.wait(Duration::from_secs(60))?;
    assert_eq!(ended.code(), Some(2));
    let log = controller.log()?;
    let reason = "the API server runs Kubernetes 1.31, and Bulla needs 1.32 or newer";
    ensure!(log.contains(reason), "{log}");
    drop(old);

    // An API server that does not answer this is not taken for an old one.
    let _unknown = proxy.inject(Rule::new("GET /version", Fault::Status(403)));
    controller.restart()?;
    controller.wait_until_ready()
}
