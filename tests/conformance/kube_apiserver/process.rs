//! A server process that ends with this process, even if this process is killed.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Starts the server and kills it at the end of its standard input, when the owner of the pipe's
/// other end is gone. A line of input terminates the server gracefully. The script ends when the
/// server does.
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

/// Removes a folder at the end of its standard input.
const SWEEPER: &str = r#"
trap '' INT TERM HUP
read -r _
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$1" 2>/dev/null && exit
    sleep 0.2
done
"#;

/// A running server. It is killed on drop, and when this process ends by a panic, Ctrl-C or
/// SIGKILL: a shell in its own process group watches a pipe that only this process holds.
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

    /// Terminates the server gracefully and waits for its end.
    pub(crate) fn shut_down(mut self) -> io::Result<()> {
        if let Some(input) = &mut self.watchdog.stdin {
            input.write_all(b"\n")?;
        }
        // `wait` would close the pipe, which kills the server.
        while self.is_running() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(())
    }

    /// Returns whether the server is still running.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.watchdog.try_wait(), Ok(None))
    }

    /// Returns the last lines of the server's log, for an error message.
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

/// A temporary folder that is removed when this process ends.
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
    // Its own process group, which Ctrl-C in the terminal does not reach.
    command.args(["-c", script, "sh"]).stdin(Stdio::piped()).process_group(0);
    command
}

fn end(watchdog: &mut Child) {
    drop(watchdog.stdin.take());
    let _ = watchdog.wait();
}
