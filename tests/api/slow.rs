//! Slow clients on a real listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::get;
use countersign::http::{Bounds, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};

use super::bench::{BOT, Bench};

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` against a listener, tells the listener to stop, and runs `after` while it does.
async fn on_a_listener<T, U>(
    router: Router,
    bounds: Bounds,
    test: impl AsyncFnOnce(SocketAddr) -> T,
    after: impl AsyncFnOnce(T) -> U,
) -> U {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = serve(listener, router, bounds, async move {
        let _ = stopped.await;
    });
    let tested = async {
        let result = test(address).await;
        stop.send(()).unwrap();
        after(result).await
    };
    let both = async { tokio::join!(served, tested) };
    let (served, result) = tokio::time::timeout(PATIENCE * 2, both)
        .await
        .expect("it stops when told");
    served.unwrap();
    result
}

/// Nothing more to do.
async fn nothing(_: ()) {}

async fn exchange(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Whether the server ends this connection in time.
async fn is_dropped(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .is_ok()
}

#[tokio::test]
async fn case_167_silent_and_dripping_clients_are_dropped_and_good_ones_served() {
    let bench = Bench::start().await;
    let bounds = Bounds {
        header_wait: Duration::from_millis(300),
        ..Bounds::default()
    };
    let test = async |address| {
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: ")
            .await
            .unwrap();
        let mut drip = TcpStream::connect(address).await.unwrap();
        let dripping = async {
            let mut beat = tokio::time::interval(Duration::from_millis(20));
            while drip.write_all(b"X").await.is_ok() {
                beat.tick().await;
            }
        };
        let healthy = exchange(
            address,
            "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(healthy.starts_with("HTTP/1.1 200 OK"), "{healthy}");
        tokio::time::timeout(PATIENCE, dripping)
            .await
            .expect("the dripping client is dropped");
        assert!(is_dropped(&mut half).await);
        for mut stream in silent {
            assert!(is_dropped(&mut stream).await);
        }
    };
    on_a_listener(bench.router.clone(), bounds, test, nothing).await;
}

#[tokio::test]
async fn case_167_connections_over_the_bound_wait_and_are_served_when_there_is_room() {
    let bench = Bench::start().await;
    let bounds = Bounds {
        header_wait: Duration::from_millis(300),
        connections: 2,
        ..Bounds::default()
    };
    let test = async |address| {
        let _silent = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let call = exchange(
            address,
            "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
        let answer = tokio::time::timeout(PATIENCE, call).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    };
    on_a_listener(bench.router.clone(), bounds, test, nothing).await;
}

#[tokio::test(start_paused = true)]
async fn case_167_a_body_that_never_ends_is_given_up() {
    let bench = Bench::start().await;
    let started = tokio::time::Instant::now();
    let drip = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, std::io::Error>(" "), ()))
    });
    let call = bench
        .post("/v1/requests")
        .bearer(BOT)
        .header("content-type", "application/json");
    let answer = call.body(Body::from_stream(drip)).send().await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (StatusCode::REQUEST_TIMEOUT, "body_timeout")
    );
    assert!(started.elapsed() <= Duration::from_secs(11));
}

#[tokio::test]
async fn a_stopping_listener_lets_calls_under_way_finish() {
    let entered = Arc::new(Notify::new());
    let signal = Arc::clone(&entered);
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let hold = get(async move || {
        signal.notify_one();
        released.notified().await;
        "done"
    });
    let router = Router::new().route("/hold", hold);
    let test = async |address| {
        let call = "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(call.as_bytes()).await.unwrap();
        entered.notified().await;
        stream
    };
    let after = async |mut stream: TcpStream| {
        release.notify_one();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = on_a_listener(router, Bounds::default(), test, after).await;
    assert!(answer.ends_with("done"), "{answer}");
}
