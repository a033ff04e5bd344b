//! A server process that ends when this one does, however this one does.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Starts the server and kills it at the end of its own input, which is the end of whoever holds the other end of the pipe.
/// A line of input asks the server to end before. It ends by itself when the server does.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{ read -r _ <&3 && kill -TERM "$server" && read -r _ <&3; kill -KILL "$server"; } 2>/dev/null &
reader=$!
wait "$server"
status=$?
kill -KILL "$reader" 2>/dev/null
exit "$status"
"#;

/// Removes a folder at the end of its input.
const SWEEPER: &str = r#"
trap '' INT TERM HUP
read -r _
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$1" 2>/dev/null && exit
    sleep 0.2
done
"#;

/// A running server. Dropping it kills it; so does the end of this process, be it a panic, Ctrl-C or SIGKILL, because a
/// small shell in a process group of its own watches a pipe that nobody else holds.
#[derive(Debug)]
pub(crate) struct Process {
    watchdog: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(program: &Path, arguments: &[String], log: PathBuf) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = shell(WATCHDOG);
        command.arg(program).args(arguments).stdout(output.try_clone()?).stderr(output);
        Ok(Self { watchdog: command.spawn()?, log })
    }

    /// Asks the server to end, as an administrator would, and waits until it has.
    pub(crate) fn shut_down(mut self) -> io::Result<()> {
        if let Some(input) = &mut self.watchdog.stdin {
            input.write_all(b"\n")?;
        }
        // Not `wait`, which would close the pipe, and so kill.
        while self.is_running() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(())
    }

    /// Whether the server is still there.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.watchdog.try_wait(), Ok(None))
    }

    /// The last lines of what the server has said, for an error message.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.watchdog);
    }
}

/// A folder under the system's temporary one, which goes when this process does.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    sweeper: Child,
}

impl Folder {
    pub(crate) fn create(purpose: &str) -> io::Result<Self> {
        let unique =
            format!("tower-kube-auth-{purpose}-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(unique);
        std::fs::create_dir(&path)?;
        let sweeper =
            shell(SWEEPER).arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { path, sweeper })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        end(&mut self.sweeper);
    }
}

fn shell(script: &str) -> Command {
    use std::os::unix::process::CommandExt as _;

    let mut command = Command::new("sh");
    // A group of its own, which Ctrl-C at the terminal does not reach.
    command.args(["-c", script, "sh"]).stdin(Stdio::piped()).process_group(0);
    command
}

fn end(watchdog: &mut Child) {
    drop(watchdog.stdin.take());
    let _ = watchdog.wait();
}
