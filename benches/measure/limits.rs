//! What the machine itself can do, so that the other numbers have something to be held against.
//!
//! Each is the bare thing with nothing of Vigil in it: a copy in memory, an append that reaches the disk, and a stream of
//! gRPC messages over a socket.

use crate::load;
use crate::servers::{Server, fresh_dir};
use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response};
use serde_json::Value;
use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

const MEASURED: Duration = Duration::from_secs(2);
/// What an event of 256 bytes is as a message of its own.
const MESSAGE_BYTES: usize = 320;
/// What one DATA frame carries when the server has much to send.
const FRAME_BYTES: usize = 16 << 10;
const WINDOW_BYTES: u32 = 4 << 20;
const WATCHERS: u64 = 1000;

/// Measures and prints all of them.
pub(crate) fn print() {
    println!("limits of the machine");
    println!("| | |\n|---|---|");
    println!("| memcpy of 1 MiB | {:.1} GiB/s |", memcpy());
    for bytes in [512, 4096, 16_384] {
        let each = append(bytes);
        println!(
            "| append of {bytes} bytes to a file that is there, with fdatasync | {:.0} /s, {:.2} ms each |",
            1.0 / each.as_secs_f64(),
            each.as_secs_f64() * 1e3
        );
    }
    println!(
        "| messages of {MESSAGE_BYTES} bytes through one stream of HTTP/2, both ends on these cores | {:.2} M/s |",
        stream() / 1e6
    );
    let raw = Server::raw(WATCHERS, 1);
    let watchers = WATCHERS.to_string();
    let load = [
        "fanout",
        "--pace",
        "flood",
        "--watchers",
        &watchers,
        "--seconds",
        "2",
    ];
    let report = load::run(&raw, &load).expect("a report");
    let rate = report.pointer("/per_second").and_then(Value::as_f64);
    println!(
        "| events of 256 bytes to {WATCHERS} watchers, a message each, through one bare gRPC stream to `vigil bench` | {:.2} M/s |",
        rate.expect("a rate") / 1e6
    );
}

fn memcpy() -> f64 {
    let from = vec![1_u8; 1 << 20];
    let mut to = vec![0_u8; 1 << 20];
    let (begin, mut copied) = (Instant::now(), 0_u64);
    while begin.elapsed() < MEASURED {
        black_box(&mut to).copy_from_slice(black_box(&from));
        copied += 1;
    }
    copied as f64 / 1024.0 / begin.elapsed().as_secs_f64()
}

/// How long one append takes to reach the disk, over a file that has its blocks already.
fn append(bytes: usize) -> Duration {
    const FILE_BYTES: usize = 64 << 20;
    let dir = fresh_dir();
    let path = dir.path().join("append");
    std::fs::write(&path, vec![1_u8; FILE_BYTES]).expect("a file");
    let mut file = File::options().write(true).open(&path).expect("the file");
    file.sync_all().expect("it reaches the disk");
    let record = vec![2_u8; bytes];
    let (begin, mut appended) = (Instant::now(), 0_u32);
    while begin.elapsed() < MEASURED && (appended as usize + 1) * bytes <= FILE_BYTES {
        file.write_all(&record).expect("room");
        file.sync_data().expect("it reaches the disk");
        appended += 1;
    }
    begin.elapsed() / appended
}

/// Messages a second from a thread that writes what is ready to one that only counts.
fn stream() -> f64 {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("its address");
    // It ends with the client's connection.
    std::thread::spawn(move || runtime().block_on(serve(listener)));
    runtime().block_on(async move {
        let socket = TcpStream::connect(address).await.expect("a connection");
        socket.set_nodelay(true).expect("a socket");
        let (mut requests, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake::<_, Bytes>(socket)
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        let request = Request::post("http://limits/").body(()).expect("a request");
        let (answer, _) = requests.send_request(request, true).expect("a stream");
        let mut body = answer.await.expect("an answer").into_body();
        let (begin, mut received) = (Instant::now(), 0);
        while begin.elapsed() < MEASURED {
            let data = body.data().await.expect("more").expect("data");
            received += data.len();
            body.flow_control()
                .release_capacity(data.len())
                .expect("room");
        }
        received as f64 / MESSAGE_BYTES as f64 / begin.elapsed().as_secs_f64()
    })
}

async fn serve(listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).expect("a socket");
    let (socket, _) = listener.accept().await.expect("the client");
    socket.set_nodelay(true).expect("a socket");
    let mut connection = h2::server::handshake(socket).await.expect("HTTP/2");
    let (_, mut respond) = connection
        .accept()
        .await
        .expect("a stream")
        .expect("its head");
    let mut body = respond
        .send_response(Response::new(()), false)
        .expect("an answer");
    let send = async move {
        loop {
            body.reserve_capacity(FRAME_BYTES);
            let Some(Ok(room)) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await else {
                return;
            };
            // Each message is copied, as an event is behind its watcher's head.
            let mut frame = BytesMut::with_capacity(room);
            while frame.len() + MESSAGE_BYTES <= room {
                frame.put_bytes(7, MESSAGE_BYTES);
            }
            frame.put_bytes(7, room - frame.len());
            if body.send_data(frame.freeze(), false).is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = send => {}
        _ = std::future::poll_fn(|cx| connection.poll_closed(cx)) => {}
    }
}
