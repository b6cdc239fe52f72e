//! An answer that gets lost: a proxy between broker and PostgreSQL cuts the line at the worst moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use countersign::store::{PostgresStore, Store, StoreError};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{TestDatabase, batch, blob, head_at};
use crate::support::postgres_servers;

/// In the entries of an append that is to lose its answer. Parameters travel as they are.
const MARK: &str = "cut-the-line-here";

/// What to do with a connection on which [`MARK`] passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Cut {
    /// Nothing.
    Never,
    /// Cut before the server gets it.
    Request,
    /// Let the server do it, and cut when its answer comes back.
    Answer,
}

struct Proxy {
    address: std::net::SocketAddr,
    cut: Arc<AtomicU8>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(AtomicU8::new(Cut::Never as u8));
        let mut tasks = JoinSet::new();
        let orders = Arc::clone(&cut);
        tasks.spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                lines.spawn(carry(client, server, Arc::clone(&orders)));
            }
        });
        Self {
            address,
            cut,
            _tasks: tasks,
        }
    }

    fn cut_at_mark(&self, what: Cut) {
        self.cut.store(what as u8, Ordering::SeqCst);
    }
}

/// Carries bytes both ways until the line is to be cut. An append is longer than one read, so the mark is
/// looked for in all that was sent since the last answer.
async fn carry(mut client: TcpStream, mut server: TcpStream, orders: Arc<AtomicU8>) {
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    let mut sent = Vec::new();
    loop {
        let ordered = |cut: Cut| orders.load(Ordering::SeqCst) == cut as u8;
        tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(count) if count > 0 => {
                    sent.extend_from_slice(&up[..count]);
                    if ordered(Cut::Request) && marked(&sent) {
                        return;
                    }
                    if server.write_all(&up[..count]).await.is_err() { return; }
                }
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(count) if count > 0 => {
                    if ordered(Cut::Answer) && marked(&sent) {
                        return;
                    }
                    sent.clear();
                    if client.write_all(&down[..count]).await.is_err() { return; }
                }
                _ => return,
            },
        }
    }
}

fn marked(bytes: &[u8]) -> bool {
    bytes
        .windows(MARK.len())
        .any(|part| part == MARK.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l08_a_lost_answer_is_unknown_and_reading_again_shows_the_truth() {
    for server in postgres_servers() {
        let database = TestDatabase::create(&server).await;
        let host = database.url.host_str().unwrap();
        let port = database.url.port().unwrap();
        let proxy = Proxy::to(format!("{host}:{port}")).await;
        let mut url = database.url.clone();
        url.set_port(Some(proxy.address.port())).unwrap();
        let store = PostgresStore::connect(&SecretString::from(url.as_str()))
            .await
            .unwrap();
        store.append(batch(0, 1, "prepared")).await.unwrap();
        let mut size = 1;
        for round in 0..10 {
            for cut in [Cut::Answer, Cut::Request] {
                proxy.cut_at_mark(cut);
                let mut lost = batch(size, 3, MARK);
                let text = format!("{round} {cut:?}");
                lost.blobs.push(blob(&text));
                let outcome = store.append(lost.clone()).await;
                assert!(
                    matches!(outcome, Err(StoreError::Unknown { .. })),
                    "{text}: {outcome:?}"
                );
                proxy.cut_at_mark(Cut::Never);
                let happened = cut == Cut::Answer;
                let kept = store.blob(&blob(&text).sha256).await.unwrap();
                assert_eq!(kept.is_some(), happened, "{text}");
                let again = store.append(lost).await;
                if happened {
                    assert!(matches!(again, Err(StoreError::Conflict)), "{again:?}");
                } else {
                    again.unwrap();
                }
                size += 3;
                assert_eq!(store.head().await.unwrap(), head_at(size), "{text}");
            }
        }
        assert_eq!(store.read(0, 100).await.unwrap().len(), 61);
        drop(store);
        database.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_reached_fails_and_does_not_leave_doubt() {
    for server in postgres_servers() {
        let database = TestDatabase::create(&server).await;
        let store = database.store().await;
        store.append(batch(0, 1, "x")).await.unwrap();
        database.remove().await;
        // The line breaks under the first append: unknown. After that nobody can be asked: failed.
        let first = store.append(batch(1, 1, "y")).await;
        assert!(
            matches!(first, Err(StoreError::Unknown { .. })),
            "{first:?}"
        );
        let second = store.append(batch(1, 1, "y")).await;
        assert!(
            matches!(second, Err(StoreError::Failed { .. })),
            "{second:?}"
        );
        let read = store.head().await;
        assert!(matches!(read, Err(StoreError::Failed { .. })), "{read:?}");
    }
}
