//! A terminal for a command, which tests can type into.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

/// A command that runs on a terminal.
pub(crate) struct Pty {
    master: OwnedFd,
    child: Child,
    reader: Option<JoinHandle<()>>,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Pty {
    /// Starts a command on a new terminal.
    pub(crate) fn start(command: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = || Stdio::from(File::options().read(true).write(true).open(&name).unwrap());
        // setsid makes its stdin the controlling terminal, which would need unsafe code here.
        let mut on_terminal = Command::new("setsid");
        on_terminal.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            on_terminal.current_dir(folder);
        }
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => on_terminal.env(key, value),
                None => on_terminal.env_remove(key),
            };
        }
        on_terminal.stdin(terminal()).stdout(terminal()).stderr(terminal());
        let child = on_terminal.spawn().unwrap();
        drop(on_terminal);
        let mut reader = File::from(master.try_clone().unwrap());
        let shown = Arc::new(Mutex::new(Vec::new()));
        let so_far = Arc::clone(&shown);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 1024];
            loop {
                match reader.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => so_far.lock().unwrap().extend(&buffer[..read]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // The last process has closed the terminal.
                    Err(_) => break,
                }
            }
        });
        Self { master, child, reader: Some(reader), shown }
    }

    pub(crate) fn is_echoing(&self) -> bool {
        tcgetattr(&self.master).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Types once the terminal no longer shows what is typed.
    pub(crate) fn type_unseen(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.is_echoing() {
            assert!(Instant::now() < deadline, "no hidden prompt appeared");
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before the prompt");
            thread::sleep(Duration::from_millis(2));
        }
        File::from(self.master.try_clone().unwrap()).write_all(text.as_bytes()).unwrap();
    }

    /// Types once the terminal shows what is typed.
    pub(crate) fn type_when_echoing(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.is_echoing() {
            assert!(Instant::now() < deadline, "the terminal stays hidden");
            thread::sleep(Duration::from_millis(2));
        }
        File::from(self.master.try_clone().unwrap()).write_all(text.as_bytes()).unwrap();
    }

    /// Types at this prompt.
    pub(crate) fn type_at(&mut self, prompt: &str, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.text().ends_with(prompt) {
            assert!(Instant::now() < deadline, "no prompt {prompt}");
            thread::sleep(Duration::from_millis(2));
        }
        self.type_unseen(text);
    }

    /// Everything that the terminal has shown.
    fn text(&self) -> String {
        String::from_utf8(self.shown.lock().unwrap().clone()).unwrap()
    }

    /// Waits for the end: exit code, and everything that the terminal has shown.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        (status.code(), self.text())
    }
}
