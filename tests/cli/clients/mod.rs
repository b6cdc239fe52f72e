//! The programs of `docs/clients.md`, run by the real clients under the real `exec`, against real servers with TLS.

mod mariadb;
mod postgres;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{CERTIFICATE_FOR_LOCALHOST, DatabaseClients, database_clients};

/// What is changed before the programs run once more.
type Change = &'static str;

/// Nothing: the server is the one that was delivered.
const AS_DELIVERED: Change = "";

/// The authority did not sign the server's certificate.
const STRANGER: Change = "cp stranger/server.crt \"$COUNTERSIGN_CA_FILE\"";

/// One way to run one program.
struct Program {
    /// The heading it stands under.
    client: String,
    command: String,
}

/// The programs of a part of the page, as files.
struct Clients {
    directory: TempDir,
    installed: DatabaseClients,
    programs: Vec<Program>,
}

/// What a program did in one pass.
struct Outcome<'a> {
    client: &'a str,
    worked: bool,
    said: String,
}

impl Clients {
    /// Those under the heading `part`.
    fn of(part: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = root.join("tests/cli/clients/node/node_modules");
        std::os::unix::fs::symlink(modules, directory.path().join("node_modules")).unwrap();
        make_certificate(&directory.path().join("stranger"), "localhost");
        make_certificate(&directory.path().join("another"), "another.example");
        let page = fs::read_to_string(root.join("docs/clients.md")).unwrap();
        let mut clients = Self {
            directory,
            installed: database_clients(),
            programs: Vec::new(),
        };
        for (client, language, text) in programs(&page, part) {
            clients.add(client, language, text);
        }
        clients
    }

    fn add(&mut self, client: &str, language: &str, text: &str) {
        let file = format!("program-{}.{language}", self.programs.len());
        fs::write(self.directory.path().join(&file), text).unwrap();
        let ours = self.installed.python.display();
        let commands = match (language, client) {
            ("python", "mysqlclient") => vec![format!("/usr/bin/python3 {file}")],
            // Debian's are older.
            ("python", "psycopg 2" | "PyMySQL") => {
                vec![format!("/usr/bin/python3 {file}"), format!("{ours} {file}")]
            }
            ("python", _) => vec![format!("{ours} {file}")],
            ("javascript", _) => {
                let module = file.replace(".javascript", ".mjs");
                let from = self.directory.path().join(&file);
                fs::rename(from, self.directory.path().join(&module)).unwrap();
                vec![format!("node {module}")]
            }
            ("go", _) => vec![format!("go run {file}")],
            ("java", _) => vec![format!(
                "java -cp /usr/share/java/postgresql.jar:/usr/share/java/mariadb-java-client.jar {file}"
            )],
            ("sh", _) => vec![format!("sh -e {file}")],
            _ => panic!("{client}: no way to run {language}"),
        };
        let programs = commands.into_iter().map(|command| Program {
            client: client.into(),
            command,
        });
        self.programs.extend(programs);
    }

    /// The path of a script that runs every program once after each change: a pass.
    fn script(&self, passes: &[Change]) -> String {
        let directory = self.directory.path().display();
        let go = &self.installed.go_cache;
        let mut script = format!(
            "cd {directory}; unset SSL_CERT_FILE\n\
             export HOME={directory} GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE={go} GOFLAGS=\n\
             export JDK_JAVA_OPTIONS=-XX:TieredStopAtLevel=1\n"
        );
        for (number, change) in passes.iter().enumerate() {
            script += &format!("{change}\n");
            for (at, program) in self.programs.iter().enumerate() {
                let command = &program.command;
                script +=
                    &format!("{command} >said-{number}-{at} 2>&1; echo $? >code-{number}-{at}\n");
            }
        }
        let path = self.directory.path().join("run.sh");
        fs::write(&path, script).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A machine's bundle: the server's certificate is one of several.
    fn bundle(&self, pem: &str) -> PathBuf {
        let another = fs::read_to_string(self.directory.path().join("another/server.crt")).unwrap();
        let path = self.directory.path().join("bundle.pem");
        fs::write(&path, format!("{another}{pem}\n{another}")).unwrap();
        path
    }

    /// `exec`, where it finds what the programs are run by.
    fn with_programs(&self, mut exec: Command) -> Command {
        exec.env("PATH", &self.installed.path);
        exec
    }

    fn outcomes(&self, pass: usize) -> impl Iterator<Item = Outcome<'_>> {
        let read = move |what: &str, at: usize| {
            let file = format!("{what}-{pass}-{at}");
            fs::read_to_string(self.directory.path().join(file)).unwrap()
        };
        let programs = self.programs.iter().enumerate();
        programs.map(move |(at, program)| Outcome {
            client: &program.client,
            worked: read("code", at) == "0\n",
            said: format!("{}: {}", program.command, read("said", at)),
        })
    }

    /// Every program was connected as `user` in this pass.
    fn assert_connected(&self, pass: usize, user: &str) {
        assert!(self.programs.len() > 5, "the page has no such part");
        for outcome in self.outcomes(pass) {
            let Outcome {
                client,
                worked,
                said,
            } = outcome;
            assert!(worked && said.contains(user), "{client}: {said}");
        }
    }

    /// Every program refused the server's certificate in this pass, except these clients.
    /// An address is no name for some: they compare nothing with it.
    fn assert_refused(&self, pass: usize, except: &[&str]) {
        for outcome in self.outcomes(pass) {
            let Outcome {
                client,
                worked,
                said,
            } = outcome;
            let why = said.to_lowercase();
            let refused =
                !worked && (why.contains("certif") || why.contains("could not be verified"));
            assert_eq!(refused, !except.contains(&client), "{client}: {said}");
        }
    }
}

/// Heading, language and text of every program of a part.
fn programs<'a>(page: &'a str, part: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let start = page.find(&format!("\n## {part}\n")).unwrap() + 1;
    let text = &page[start..];
    let text = text[2..].split("\n## ").next().unwrap();
    let sections = text.split("\n### ").skip(1);
    sections
        .flat_map(|section| {
            let client = section.lines().next().unwrap();
            let blocks = section.split("```").skip(1).step_by(2);
            blocks.map(move |block| {
                let (language, program) = block.split_once('\n').unwrap();
                (client, language, program)
            })
        })
        .collect()
}

/// A certificate that the server does not have.
fn make_certificate(directory: &Path, name: &str) {
    fs::create_dir(directory).unwrap();
    let made = Process::new("sh")
        .args(["-c", &CERTIFICATE_FOR_LOCALHOST.replace("localhost", name)])
        .current_dir(directory)
        .status();
    assert!(made.unwrap().success());
}
