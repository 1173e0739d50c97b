//! A server for one document: HTTP/1.1, one request for each connection, one connection at a time.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::failure::{Failure, Outcome};
use crate::shell::Shell;
use crate::stop::Stop;

const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The longest pause of a client: one that says nothing does not keep the others out.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest request that is read.
const LONGEST_REQUEST: u64 = 16 << 10;

/// Prints the address where it listens, which a port 0 leaves to the system, and answers until a
/// signal comes.
pub(super) fn run(
    shell: &Shell,
    stop: &Stop,
    address: SocketAddr,
    document: impl Fn() -> Outcome<String>,
) -> Outcome {
    let failed = |error| Failure::failed(format!("cannot listen at {address}: {error}"));
    let listener = TcpListener::bind(address).map_err(failed)?;
    // A signal does not end an accept; so it is asked now and then.
    listener.set_nonblocking(true).map_err(failed)?;
    shell.print(&format!("http://{}/metrics", listener.local_addr().map_err(failed)?))?;
    while !stop.is_stopped() {
        match listener.accept() {
            Ok((client, _)) => {
                if let Err(error) = answer(client, &document) {
                    shell.remark(&format!("a client got no answer: {error}"));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stop.sleep(Duration::from_millis(20));
            }
            // The client has gone before it was accepted, or no descriptor is left at the moment.
            Err(error) => {
                shell.remark(&format!("cannot accept a client: {error}"));
                stop.sleep(Duration::from_secs(1));
            }
        }
    }
    Ok(())
}

fn answer(client: TcpStream, document: impl Fn() -> Outcome<String>) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new((&client).take(LONGEST_REQUEST));
    let mut request = String::new();
    lines.read_line(&mut request)?;
    // A connection that is closed with unread bytes is reset, and the answer may be lost.
    let mut header = String::new();
    while lines.read_line(&mut header)? > 2 {
        header.clear();
    }
    let mut words = request.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let (status, kind, body) = match (method, path) {
        ("GET" | "HEAD", "/" | "/metrics") => match document() {
            Ok(text) => ("200 OK", TYPE, text),
            Err(failure) => ("500 Internal Server Error", "text/plain", format!("{failure}\n")),
        },
        ("GET" | "HEAD", _) => ("404 Not Found", "text/plain", "see /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "use GET\n".to_owned()),
    };
    let length = body.len();
    let shown = if method == "HEAD" { "" } else { &body };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    (&client).write_all((head + shown).as_bytes())
}
