//! A relay between the broker and a server that can lose answers, hold messages back, forget options or lead elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, PartialEq)]
enum Manner {
    Faithful,
    LoseAnswersTo(&'static str),
    HoldBack(&'static str),
}

struct Shared {
    manner: watch::Sender<Manner>,
    /// The server's port; whoever is connected to another is cut off.
    port: watch::Sender<u16>,
    /// Whether the options of PostgreSQL's startup message are dropped, as some poolers do.
    drops_options: AtomicBool,
    holding: watch::Sender<bool>,
    sent: Mutex<Vec<u8>>,
}

pub struct Relay {
    pub port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes
        .windows(word.len())
        .any(|window| window == word.as_bytes())
}

/// PostgreSQL's startup message without its parameter `options`.
fn without_options(message: &[u8]) -> Vec<u8> {
    let mut kept = message[4..8].to_vec();
    let mut parts = message[8..].split(|byte| *byte == 0);
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        if !name.is_empty() && name != b"options" {
            kept.extend_from_slice(name);
            kept.push(0);
            kept.extend_from_slice(value);
            kept.push(0);
        }
    }
    kept.push(0);
    let length = u32::try_from(kept.len() + 4).unwrap();
    [&length.to_be_bytes()[..], &kept].concat()
}

async fn pass(client: TcpStream, shared: Arc<Shared>) -> std::io::Result<()> {
    let mut leads_to = shared.port.subscribe();
    let port = *leads_to.borrow_and_update();
    let server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (cut, mut was_cut) = watch::channel(false);
    let up = async {
        let mut bytes = vec![0; 65_536];
        if shared.drops_options.load(Ordering::SeqCst) {
            let count = from_client.read(&mut bytes).await?;
            to_server
                .write_all(&without_options(&bytes[..count]))
                .await?;
        }
        loop {
            let count = from_client.read(&mut bytes).await?;
            let part = &bytes[..count];
            shared.sent.lock().unwrap().extend_from_slice(part);
            let manner = shared.manner.borrow().clone();
            match manner {
                Manner::LoseAnswersTo(word) if contains(part, word) => {
                    cut.send_replace(true);
                }
                Manner::HoldBack(word) if contains(part, word) => {
                    shared.holding.send_replace(true);
                    let mut manner = shared.manner.subscribe();
                    let _ = manner.wait_for(|manner| *manner == Manner::Faithful).await;
                }
                _ => {}
            }
            to_server.write_all(part).await?;
            if count == 0 {
                return Ok::<_, std::io::Error>(());
            }
        }
    };
    let down = async {
        let mut bytes = vec![0; 65_536];
        loop {
            let count = from_server.read(&mut bytes).await?;
            if count == 0 || *was_cut.borrow_and_update() {
                return Ok::<_, std::io::Error>(());
            }
            to_client.write_all(&bytes[..count]).await?;
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
        _ = leads_to.changed() => Ok(()),
    }
}

impl Relay {
    #[expect(
        clippy::disallowed_methods,
        reason = "the relay lives as long as its test"
    )]
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            manner: watch::Sender::new(Manner::Faithful),
            port: watch::Sender::new(port),
            drops_options: AtomicBool::new(false),
            holding: watch::Sender::new(false),
            sent: Mutex::default(),
        });
        let kept = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, kept.clone()));
            }
        });
        Self {
            port: own,
            shared,
            accepting,
        }
    }

    pub fn be_faithful(&self) {
        self.shared.manner.send_replace(Manner::Faithful);
    }

    pub fn lose_answers_to(&self, word: &'static str) {
        self.shared.manner.send_replace(Manner::LoseAnswersTo(word));
    }

    /// From now on it leads to `port`, and nobody is connected any more.
    pub fn lead_to(&self, port: u16) {
        self.shared.port.send_replace(port);
    }

    /// Whether the options of whoever connects from now on are dropped.
    pub fn drop_options(&self, drops: bool) {
        self.shared.drops_options.store(drops, Ordering::SeqCst);
    }

    pub fn hold_back(&self, word: &'static str) {
        self.shared.manner.send_replace(Manner::HoldBack(word));
    }

    pub fn is_holding(&self) -> bool {
        *self.shared.holding.borrow()
    }

    /// Whether `text` was among the bytes the broker sent.
    pub fn saw(&self, text: &str) -> bool {
        contains(&self.shared.sent.lock().unwrap(), text)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
