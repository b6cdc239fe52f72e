//! A wire between the broker and its target that can be held: what the target answers stays away from the broker.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The wire; cut with this value.
pub struct Relay {
    /// Where it is entered.
    pub port: u16,
    rules: Arc<watch::Sender<Rules>>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Default)]
struct Rules {
    /// From a client's message that contains this on, nothing comes back.
    hold_after: Option<&'static [u8]>,
    /// Whether such a message has passed.
    held: bool,
}

impl Relay {
    /// A wire to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let rules = Arc::new(watch::channel(Rules::default()).0);
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&rules);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(carry(client, target, Arc::clone(&shared)));
            }
        });
        Self {
            port,
            rules,
            _tasks: tasks,
        }
    }

    /// From the first message to the target that contains `marker` on, its connection answers nothing.
    pub fn hold_answers_after(&self, marker: &'static [u8]) {
        self.rules.send_modify(|rules| {
            *rules = Rules {
                hold_after: Some(marker),
                held: false,
            }
        });
    }

    /// Waits until such a message has passed.
    pub async fn holds(&self) {
        let mut rules = self.rules.subscribe();
        let held = rules.wait_for(|rules| rules.held);
        let waited = tokio::time::timeout(super::PATIENCE, held).await;
        waited.expect("no such message passed").unwrap();
    }

    /// Lets everything through again.
    pub fn release(&self) {
        self.rules.send_modify(|rules| *rules = Rules::default());
    }
}

async fn carry(client: TcpStream, target: SocketAddr, rules: Arc<watch::Sender<Rules>>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (hold, mut held) = watch::channel(false);
    let there = async move {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
            let message = &bytes[..length];
            let marker = rules.borrow().hold_after;
            let caught =
                marker.is_some_and(|marker| message.windows(marker.len()).any(|w| w == marker));
            if caught {
                hold.send_replace(true);
            }
            if to_server.write_all(message).await.is_err() {
                return;
            }
            if caught {
                rules.send_modify(|rules| rules.held = true);
            }
        }
    };
    let back = async move {
        let caught = async {
            let _ = held.wait_for(|held| *held).await;
        };
        tokio::select! {
            biased;
            () = caught => {
                // The target goes on and is heard by nobody.
                let _ = copy(&mut from_server, &mut tokio::io::sink()).await;
            }
            _ = copy(&mut from_server, &mut to_client) => {}
        }
    };
    tokio::join!(there, back);
}
