//! A small HTTP server on a free port of this machine, which a test scripts and counts.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method and target, such as `GET /a?b`.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Asked {
    /// The first header of this name; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers beside the length.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer without special headers.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }
}

/// A server. It ends with the test.
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    most: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
}

impl Endpoint {
    /// Starts it; `answer` runs on a thread of each connection.
    ///
    /// # Panics
    /// No port is free.
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = Self {
            address: listener.local_addr().expect("an address"),
            asked: Arc::default(),
            most: Arc::default(),
            closed: Arc::default(),
        };
        let (asked, most, closed) = (endpoint.asked.clone(), endpoint.most.clone(), endpoint.closed.clone());
        let (answer, running) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if closed.load(SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (asked, most) = (asked.clone(), most.clone());
                let (answer, running) = (answer.clone(), running.clone());
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    // A caller that goes away is its own business.
                    while let Ok(Some(request)) = read(&mut reader) {
                        asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
                        most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                        let reply = answer(&request);
                        running.fetch_sub(1, SeqCst);
                        if write(reader.get_mut(), &reply).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        endpoint
    }

    /// All that was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Most requests at one time.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.most.load(SeqCst)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.closed.store(true, SeqCst);
        // The listener looks up when somebody comes.
        let _ = TcpStream::connect(self.address);
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut asked = Asked { line, headers: Vec::new(), body: Vec::new() };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if asked.header("transfer-encoding") == "chunked" {
        loop {
            let mut length = String::new();
            reader.read_line(&mut length)?;
            let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
            let mut chunk = vec![0; length + 2];
            reader.read_exact(&mut chunk)?;
            if length == 0 {
                break;
            }
            asked.body.extend_from_slice(&chunk[..length]);
        }
    } else {
        asked.body = vec![0; asked.header("content-length").parse().unwrap_or(0)];
        reader.read_exact(&mut asked.body)?;
    }
    Ok(Some(asked))
}

fn write(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Scripted\r\ncontent-length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(&[head.as_bytes(), &reply.body].concat())
}
