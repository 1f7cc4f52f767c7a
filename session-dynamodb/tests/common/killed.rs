//! A server of one's own that can be killed: an emulator that keeps its table in a file, in a process of its own.

use std::{
    env, fs,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use session_conformance::{BoxError, Crash, async_trait};
use session_core::SessionStore;
use session_testbed::DynamoDbServer;

use super::{client_of, opened};

const PATH: &str = "SESSION_DYNAMODB_SERVE_PATH";
const PORT: &str = "SESSION_DYNAMODB_SERVE_PORT";

/// Where this process is the server: serves until it is killed, or whoever started it is gone.
pub(crate) fn serves() -> Option<ExitCode> {
    let path = PathBuf::from(env::var_os(PATH)?);
    let port = env::var(PORT).ok()?.parse().ok()?;
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(1)
    });
    Some(match DynamoDbServer::serve_file(&path, port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

pub(crate) struct Killed {
    folder: PathBuf,
    /// `HOST:PORT`
    address: String,
    process: Mutex<Child>,
}

impl Killed {
    pub(crate) async fn start() -> Result<Self, BoxError> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let folder = env::temp_dir().join(format!("session-dynamodb-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let (process, address) = start(&folder, session_testbed::free_port()?)?;
        Ok(Self {
            folder,
            address,
            process: Mutex::new(process),
        })
    }

    fn port(&self) -> Result<u16, BoxError> {
        let (_, port) = self.address.rsplit_once(':').ok_or("no port")?;
        Ok(port.parse()?)
    }
}

/// A process that serves, and its address.
fn start(folder: &std::path::Path, port: u16) -> Result<(Child, String), BoxError> {
    let mut process = Command::new(env::current_exe()?)
        .env(PATH, folder.join("tables.db"))
        .env(PORT, port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = process.stdout.take().ok_or("no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    match line.trim() {
        "" => {
            let _ = process.kill();
            Err("the server that is to be killed did not start".into())
        }
        address => Ok((process, address.to_owned())),
    }
}

#[async_trait]
impl Crash for Killed {
    async fn open(&self) -> Result<Arc<dyn SessionStore>, BoxError> {
        let endpoint = format!("http://{}", self.address);
        opened(
            client_of("eu-central-1", ("key", "secret"), Some(&endpoint)),
            "killed",
        )
        .await
    }

    async fn crash(&self) -> Result<(), BoxError> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        // SIGKILL
        process.kill()?;
        process.wait()?;
        (*process, _) = start(&self.folder, self.port()?)?;
        Ok(())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = process.kill();
        let _ = process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
